//! Waits for the message of a call before anything is begun for it. A client that takes its time with the rest of a
//! message counts as a [slow client](crate::net::slow_client), and takes no room among the running calls.

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, request::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tonic::{Status, body::Body};

use super::{
    super::status,
    middleware::{Answer, Inner, Middleware, Response},
    response_buffer::pending_for,
};
use crate::net::{connection::Remote, slow_client::Client};

/// Calls the service once the message is there.
pub struct MessageBuffer {
    /// The RPCs with more than one message, which are called at once.
    pub streaming: HashSet<String>,
    /// How long a message may take.
    pub timeout: Duration,
    /// A message that is longer is not waited for: the service refuses it.
    pub max_bytes: usize,
}

impl Middleware for MessageBuffer {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        let client = request.extensions().get::<Remote>().map(|remote| Arc::clone(&remote.client));
        let (parts, body) = request.into_parts();
        let mut message = Message::new(body, self.max_bytes);
        // Most messages arrive together with their call.
        let is_there = self.streaming.contains(parts.uri.path()) || message.arrive(|_| ()).now_or_never().is_some();
        if is_there {
            let work = inner.call(Request::from_parts(parts, Body::new(message)));
            return Box::pin(async move { Ok(pending_for(client, work.await?)) });
        }
        let (mut inner, limit) = (inner.take(), self.timeout);
        Box::pin(async move {
            if let Err(refused) = wait(&mut message, &parts, client.as_ref(), limit).await {
                return Ok(refused);
            }
            let response = inner.call(Request::from_parts(parts, Body::new(message))).await?;
            Ok(pending_for(client, response))
        })
    }
}

/// Waits for the rest of a message, or answers instead of the service.
async fn wait(
    message: &mut Message,
    parts: &Parts,
    client: Option<&Arc<Client>>,
    limit: Duration,
) -> Result<(), Response> {
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut pending = match client.map(|client| client.await_message(headers)) {
        Some(None) => return Err(status::overloaded("too many messages are incomplete").into_http()),
        pending => pending.flatten(),
    };
    let arrival = message.arrive(|bytes| pending.iter_mut().for_each(|pending| pending.grow(bytes)));
    if timeout(limit, arrival).await.is_err() {
        return Err(status::message_late().into_http());
    }
    match message.is_broken() {
        // The client has gone, and reads no answer.
        true => Err(Status::cancelled("").into_http()),
        false => Ok(()),
    }
}

type Received = Result<Frame<Bytes>, Status>;

/// The message of a call, as far as it has arrived.
struct Message {
    /// Most messages are one frame, which is kept without an allocation.
    first: Option<Received>,
    more: VecDeque<Received>,
    bytes: usize,
    max_bytes: usize,
    rest: Option<Body>,
}

impl Message {
    fn new(body: Body, max_bytes: usize) -> Self {
        Self { first: None, more: VecDeque::new(), bytes: 0, max_bytes, rest: Some(body) }
    }

    fn is_broken(&self) -> bool {
        self.more.back().or(self.first.as_ref()).is_some_and(Result::is_err)
    }

    /// Ends when all of it is there, or enough to be refused; `grow` is given the length of each part. It may be
    /// dropped at any time, and called again.
    async fn arrive(&mut self, mut grow: impl FnMut(usize)) {
        while let Some(rest) = &mut self.rest
            && self.bytes <= self.max_bytes
        {
            let Some(frame) = rest.frame().await else {
                self.rest = None;
                return;
            };
            if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
                self.bytes += data.len();
                grow(data.len());
            }
            if frame.is_err() {
                self.rest = None;
            }
            if self.first.is_none() && self.more.is_empty() {
                self.first = Some(frame);
            } else {
                self.more.push_back(frame);
            }
        }
    }
}

// Hand-polled: every message passes here, and one frame is replayed without an allocation.
impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let received = self.first.take().or_else(|| self.more.pop_front());
        match (received, &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::default();
        hint.set_lower(self.bytes as u64);
        hint
    }
}
