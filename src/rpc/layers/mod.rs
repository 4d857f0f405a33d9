//! What stands around every RPC, from the outside in: [`observe`] (span, metrics), panics to INTERNAL,
//! [`admission`] (shed before any work), [`deadline`].

pub mod admission;
pub mod deadline;
pub mod observe;

use std::any::Any;

use tonic::body::Body;

/// A response that is an error.
type Response = http::Response<Body>;

/// What a panic in a handler becomes. The panic's own hook has logged it.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    super::status::internal().into_http()
}
