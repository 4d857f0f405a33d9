//! The pace of clients: nothing is begun for a call before its message is there, and nothing is kept for it
//! once its answer is made. What a client takes its time for, the rest of a message or the reading of an
//! answer, costs [`Patience`](crate::rpc::patience) with it, and none of the places for calls under way.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{super::status, Response, streaming::LongStream, take_ready};
use crate::rpc::{listen::Caller, patience::Client};

/// Frames of an answer that are made before it is sent: all of one message, its status included.
const AT_ONCE: usize = 2;
/// Bytes of a long answer that are given out at once: the client that takes them takes its answer.
const PIECE: usize = 32 * 1024;

/// Lets calls in once their message is there.
#[derive(Clone)]
pub struct PaceLayer {
    talks: Arc<HashSet<String>>,
    message_timeout: Duration,
    max_bytes: usize,
}

impl PaceLayer {
    /// Waits so long for a message. What is longer than `max_bytes` is not waited for: that it is too long
    /// is said by those who read it. `talks` are the RPCs with more than one message.
    pub fn new(talks: HashSet<String>, message_timeout: Duration, max_bytes: usize) -> Self {
        Self { talks: Arc::new(talks), message_timeout, max_bytes }
    }
}

impl<S> Layer<S> for PaceLayer {
    type Service = PaceService<S>;

    fn layer(&self, inner: S) -> PaceService<S> {
        PaceService { inner, settings: self.clone() }
    }
}

/// See [`PaceLayer`].
#[derive(Clone)]
pub struct PaceService<S> {
    inner: S,
    settings: PaceLayer,
}

impl<S> Service<Request<Body>> for PaceService<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = request.extensions().get::<Caller>().map(|caller| Arc::clone(&caller.client));
        let (parts, body) = request.into_parts();
        let mut message = Message::new(body, self.settings.max_bytes);
        // Most messages come together with their call.
        let is_there = self.settings.talks.contains(parts.uri.path())
            || message.poll_arrived(&mut Context::from_waker(Waker::noop())).is_ready();
        if is_there {
            let work = self.inner.call(Request::from_parts(parts, Body::new(message)));
            return Box::pin(async move { Ok(taken_by(client, work.await?)) });
        }
        let mut inner = take_ready(&mut self.inner);
        let limit = self.settings.message_timeout;
        Box::pin(async move {
            let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            let mut wait = match &client {
                None => None,
                Some(client) => match client.wait(headers) {
                    None => return Ok(status::overloaded("too much is waited for").into_http()),
                    wait => wait,
                },
            };
            let arrival = poll_fn(|cx| {
                let before = message.bytes;
                let arrived = message.poll_arrived(cx);
                if let Some(wait) = &mut wait {
                    wait.grow(message.bytes - before);
                }
                arrived
            });
            if timeout(limit, arrival).await.is_err() {
                return Ok(status::message_late().into_http());
            }
            drop(wait);
            if message.is_broken() {
                // Nobody is there any more to be told.
                return Ok(Status::cancelled("").into_http());
            }
            let response = inner.call(Request::from_parts(parts, Body::new(message))).await?;
            Ok(taken_by(client, response))
        })
    }
}

/// The message of a call, as far as it has come.
struct Message {
    /// Most messages are one frame, which this keeps without memory of its own.
    first: Option<Made>,
    came: VecDeque<Made>,
    bytes: usize,
    enough: usize,
    rest: Option<Body>,
}

impl Message {
    fn new(body: Body, enough: usize) -> Self {
        Self { first: None, came: VecDeque::new(), bytes: 0, enough, rest: Some(body) }
    }

    fn is_broken(&self) -> bool {
        self.came.back().or(self.first.as_ref()).is_some_and(Result::is_err)
    }

    /// Ready once all of it is there, or enough to be refused.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(rest) = &mut self.rest
            && self.bytes <= self.enough
        {
            match ready!(Pin::new(rest).poll_frame(cx)) {
                None => self.rest = None,
                Some(frame) => {
                    if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
                        self.bytes += data.len();
                    }
                    if frame.is_err() {
                        self.rest = None;
                    }
                    if self.first.is_none() && self.came.is_empty() {
                        self.first = Some(frame);
                    } else {
                        self.came.push_back(frame);
                    }
                }
            }
        }
        Poll::Ready(())
    }
}

impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Made>> {
        let came = self.first.take().or_else(|| self.came.pop_front());
        match (came, &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.came.is_empty() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::default();
        hint.set_lower(self.bytes as u64);
        hint
    }
}

/// An answer that its client takes at its own pace. What can be made of it at once is, so that nothing is
/// kept but its bytes, until HTTP/2 has sent the last.
fn taken_by(client: Option<Arc<Client>>, response: Response) -> Response {
    let Some(client) = client.filter(|_| !response.body().is_end_stream()) else { return response };
    let hold: Hold = match response.extensions().get::<LongStream>() {
        Some(_) => Client::wait_with_part,
        None => Client::wait_with,
    };
    let (parts, mut body) = response.into_parts();
    let (mut made, mut is_whole) = ([None, None], false);
    let mut cx = Context::from_waker(Waker::noop());
    for place in &mut made {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(frame)) => {
                is_whole = body.is_end_stream() || !frame.as_ref().is_ok_and(Frame::is_data);
                *place = Some(frame);
            }
            Poll::Ready(None) => is_whole = true,
            // Whoever takes the answer asks again, and is woken.
            Poll::Pending => break,
        }
        if is_whole {
            break;
        }
    }
    let rest = (!is_whole).then_some(body);
    Response::from_parts(parts, Body::new(Answer { made, rest, sending: None, client, hold }))
}

type Made = Result<Frame<Bytes>, Status>;
type Hold = fn(&Arc<Client>, Bytes) -> (Bytes, u64);

/// The body of an answer.
struct Answer {
    made: [Option<Made>; AT_ONCE],
    rest: Option<Body>,
    /// What is left of the frame that is being sent, and the wait for it to be taken.
    sending: Option<(Bytes, u64)>,
    client: Arc<Client>,
    hold: Hold,
}

impl Answer {
    /// Gives the next piece out.
    fn piece(&mut self) -> Option<Frame<Bytes>> {
        let (bytes, wait) = self.sending.as_mut()?;
        if bytes.len() <= PIECE {
            return self.sending.take().map(|(bytes, _)| Frame::data(bytes));
        }
        self.client.takes_some(*wait);
        Some(Frame::data(bytes.split_to(PIECE)))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Made>> {
        let this = &mut *self;
        if let Some(piece) = this.piece() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let made = this.made.iter_mut().find_map(Option::take);
        let next = match (made, &mut this.rest) {
            (Some(frame), _) => Some(frame),
            (None, Some(rest)) => ready!(Pin::new(rest).poll_frame(cx)),
            (None, None) => None,
        };
        match next.map(|frame| frame.map(Frame::into_data)) {
            None => Poll::Ready(None),
            Some(Err(status)) => Poll::Ready(Some(Err(status))),
            Some(Ok(Err(trailers))) => Poll::Ready(Some(Ok(trailers))),
            Some(Ok(Ok(data))) => {
                this.sending = Some((this.hold)(&this.client, data));
                Poll::Ready(this.piece().map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sending.is_none()
            && self.made.iter().all(Option::is_none)
            && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
