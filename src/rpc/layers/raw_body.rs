//! Response bodies that a handler makes itself, frame by frame. The generated code takes streams of messages only, so
//! the body travels in the extensions of an empty response. Such a stream is as long as its caller likes: it does not
//! count as a running call, and has limits of its own.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::body::Body;

use super::middleware::Response;

/// The body for the response that has this among its extensions.
#[derive(Clone)]
pub struct RawBody(Arc<Mutex<Option<Body>>>);

/// Marks a response with a body that a handler made.
#[derive(Clone, Copy, Debug)]
pub struct LongStream;

impl RawBody {
    /// To be put into the extensions of a response without messages.
    pub fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

/// Gives a response the body that its handler made.
pub fn with_raw_body(mut response: Response) -> Response {
    let Some(RawBody(body)) = response.extensions_mut().remove() else { return response };
    let body = body.lock().take();
    response.extensions_mut().insert(LongStream);
    response.map(|empty| body.unwrap_or(empty))
}
