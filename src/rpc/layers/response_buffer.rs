//! Responses that their clients read as slowly as they like. What is ready of a response is made at once, so that
//! nothing of the call is kept but its bytes; these count as pending for the client until HTTP/2 has sent the last.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::FutureExt;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

use super::{middleware::Response, raw_body::LongStream};
use crate::net::slow_client::Client;

/// Frames of a response that are made before it is sent: those of a response with one message, and its trailers.
const AT_ONCE: usize = 2;
/// Bytes of a long response that are sent at once. A client that reads them makes progress.
const PIECE: usize = 32 * 1024;

type Received = Result<Frame<Bytes>, Status>;
type Track = fn(&Arc<Client>, Bytes) -> (Bytes, u64);

/// The response, pending for `client` until it is read.
pub fn pending_for(client: Option<Arc<Client>>, response: Response) -> Response {
    let Some(client) = client.filter(|_| !response.body().is_end_stream()) else { return response };
    let track: Track = match response.extensions().get::<LongStream>() {
        Some(_) => Client::await_stream_read,
        None => Client::await_read,
    };
    let (parts, mut body) = response.into_parts();
    let (mut made, mut is_whole) = ([None, None], false);
    for place in &mut made {
        // None: not ready. Whatever sends the response polls again.
        let Some(next) = body.frame().now_or_never() else { break };
        is_whole = body.is_end_stream() || !matches!(&next, Some(Ok(frame)) if frame.is_data());
        *place = next;
        if is_whole {
            break;
        }
    }
    let rest = (!is_whole).then_some(body);
    Response::from_parts(parts, Body::new(Buffered { made, rest, sending: None, client, track }))
}

/// The body of a response.
struct Buffered {
    made: [Option<Received>; AT_ONCE],
    rest: Option<Body>,
    /// What is left of the frame that is being sent, and its number for [`Client::note_progress`].
    sending: Option<(Bytes, u64)>,
    client: Arc<Client>,
    track: Track,
}

impl Buffered {
    fn next_piece(&mut self) -> Option<Frame<Bytes>> {
        let (bytes, number) = self.sending.as_mut()?;
        if bytes.len() <= PIECE {
            return self.sending.take().map(|(bytes, _)| Frame::data(bytes));
        }
        self.client.note_progress(*number);
        Some(Frame::data(bytes.split_to(PIECE)))
    }
}

// Hand-polled: every response passes here, and a stream of frames would move this state at each of them.
impl http_body::Body for Buffered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let this = &mut *self;
        if let Some(piece) = this.next_piece() {
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
                this.sending = Some((this.track)(&this.client, data));
                Poll::Ready(this.next_piece().map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sending.is_none()
            && self.made.iter().all(Option::is_none)
            && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
