//! Long streams: a handler that makes the body of its response itself hands it over in the response's
//! extensions, since the generated code only takes streams of messages. Such a stream is no call under
//! way: it has a bound of its own, and no deadline but its caller's.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::Request;
use tonic::body::Body;
use tower::{Layer, Service};

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

/// Gives responses the bodies that their handlers made.
#[derive(Clone, Copy, Debug)]
pub struct StreamingLayer;

impl<S> Layer<S> for StreamingLayer {
    type Service = StreamingService<S>;

    fn layer(&self, inner: S) -> StreamingService<S> {
        StreamingService { inner }
    }
}

/// See [`StreamingLayer`].
#[derive(Clone, Debug)]
pub struct StreamingService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for StreamingService<S>
where
    S: Service<Request<Body>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let work = self.inner.call(request);
        Box::pin(async move {
            let mut response = work.await?;
            let Some(OwnBody(body)) = response.extensions_mut().remove() else { return Ok(response) };
            let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
            response.extensions_mut().insert(LongStream);
            Ok(response.map(|empty| body.unwrap_or(empty)))
        })
    }
}
