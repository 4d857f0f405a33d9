//! Long streams: a handler that makes the body of its response itself hands it over in the response's
//! extensions, since the generated code only takes streams of messages. Such a stream is no call under
//! way: it has a bound of its own, and no deadline but its caller's.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::body::Body;

use super::Response;

/// A body for the response that has this among its extensions.
#[derive(Clone)]
pub struct OwnBody(Arc<Mutex<Option<Body>>>);

/// Marks a response that goes on for as long as its caller likes.
#[derive(Clone, Copy, Debug)]
pub struct LongStream;

impl OwnBody {
    /// To be put into the extensions of a response without messages.
    pub fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

/// Gives a response the body that its handler made.
pub fn with_own_body(mut response: Response) -> Response {
    let Some(OwnBody(body)) = response.extensions_mut().remove() else { return response };
    let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
    response.extensions_mut().insert(LongStream);
    response.map(|empty| body.unwrap_or(empty))
}
