//! What stands around every RPC, from the outside in: [`observe`] (span, metrics), a reason for every
//! refusal, panics to INTERNAL, [`deadline`], [`auth`] (who is it, and may it), [`aside`] (streams beside the
//! service), [`pace`] (is its message there), [`large`] (lists and batches wait for their turn), [`admission`]
//! (shed before any work), [`streaming`]. Whoever answers before all of the request has come leaves the rest
//! to [`unread`].

pub mod admission;
pub mod aside;
pub mod auth;
pub mod deadline;
pub mod large;
pub mod observe;
pub mod pace;
pub mod streaming;
pub mod unread;

use std::any::Any;

use tonic::{Code, Status, body::Body};

/// A response that is an error.
type Response = http::Response<Body>;

/// The service that was polled ready, for work that begins later; `service` goes on as a clone of it.
fn take_ready<S: Clone>(service: &mut S) -> S {
    let fresh = service.clone();
    std::mem::replace(service, fresh)
}

/// Gives a reason to what tonic refuses by itself: every one of ours has its details.
pub fn explained(response: Response) -> Response {
    match Status::from_header_map(response.headers()) {
        Some(refused) if refused.code() != Code::Ok && refused.details().is_empty() => {
            let (mut parts, body) = response.into_parts();
            // Fails on text that is no header's, which none of ours is.
            let _ = super::status::explained(&refused).add_header(&mut parts.headers);
            Response::from_parts(parts, body)
        }
        _ => response,
    }
}

/// What a panic in a handler becomes. The panic's own hook has logged it.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    super::status::internal().into_http()
}
