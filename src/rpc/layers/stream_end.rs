//! Ends a stream before its own end.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body::{Body as _, Frame};
use http_body_util::{BodyStream, StreamBody};
use tonic::{Status, body::Body};

use super::{super::status, middleware::Response};

/// The response with a body that ends with the status of `end`, if that comes first. What makes the body is then
/// dropped.
pub fn ended_by(response: Response, end: impl Future<Output = Status> + Send + 'static) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(StreamBody::new(frames(body, end))))
}

fn frames(body: Body, end: impl Future<Output = Status>) -> impl Stream<Item = Result<Frame<Bytes>, Status>> {
    let state = Some((BodyStream::new(body), Box::pin(end)));
    stream::unfold(state, async |state| {
        let (mut body, mut end) = state?;
        tokio::select! {
            biased;
            status = &mut end => Some((Ok(Frame::trailers(status::trailers(&status))), None)),
            frame = body.next() => frame.map(|frame| (frame, Some((body, end)))),
        }
    })
}
