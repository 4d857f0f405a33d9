//! Statuses for what tonic refuses by itself, and for panics: every status has its details.

use std::any::Any;

use bytes::Bytes;
use http_body::Frame;
use tonic::{Code, Status};

use super::{super::status, middleware::Response};

/// Gives a reason to a refusal without one.
pub fn explained(response: Response) -> Response {
    match Status::from_header_map(response.headers()).filter(is_unexplained) {
        Some(refused) => {
            let (mut parts, body) = response.into_parts();
            // Never an error: its text is a header value.
            let _ = status::explained(&refused).add_header(&mut parts.headers);
            Response::from_parts(parts, body)
        }
        None => response,
    }
}

/// The same for the end of a stream.
pub fn explained_end(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.trailers_ref().and_then(Status::from_header_map).filter(is_unexplained) {
        Some(refused) => Frame::trailers(status::trailers(&status::explained(&refused))),
        None => frame,
    }
}

fn is_unexplained(status: &Status) -> bool {
    status.code() != Code::Ok && status.details().is_empty()
}

/// The response to a call whose handler panicked. The panic hook has logged it.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    status::internal().into_http()
}
