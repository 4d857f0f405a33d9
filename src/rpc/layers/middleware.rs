//! What the layers have in common: each is one [`Middleware`], and [`layer`] makes a tower layer of it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Request;
use tonic::body::Body;
use tower::{Layer, Service};

/// A response of a service or a layer.
pub type Response = http::Response<Body>;
/// The response that is to come.
pub type Answer = BoxFuture<'static, Result<Response, Infallible>>;

/// What a layer stands around: further layers, and at last a service.
pub trait Inner:
    Service<Request<Body>, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
{
    /// The service that was polled ready, for a call that begins later. A clone stays in its place.
    fn take(&mut self) -> Self {
        let clone = self.clone();
        std::mem::replace(self, clone)
    }
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
{
}

/// What is done around each call.
pub trait Middleware: Send + Sync + 'static {
    /// Answers a call, by calling `inner` or without it.
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer;
}

/// Makes a tower layer of a middleware.
pub fn layer<M: Middleware>(middleware: M) -> MiddlewareLayer<M> {
    MiddlewareLayer(Arc::new(middleware))
}

/// See [`layer`].
pub struct MiddlewareLayer<M>(Arc<M>);

/// A service with a middleware around it.
pub struct Wrapped<M, S> {
    middleware: Arc<M>,
    inner: S,
}

impl<M> Clone for MiddlewareLayer<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M, S: Clone> Clone for Wrapped<M, S> {
    fn clone(&self) -> Self {
        Self { middleware: Arc::clone(&self.middleware), inner: self.inner.clone() }
    }
}

impl<M, S> Layer<S> for MiddlewareLayer<M> {
    type Service = Wrapped<M, S>;

    fn layer(&self, inner: S) -> Wrapped<M, S> {
        Wrapped { middleware: Arc::clone(&self.0), inner }
    }
}

impl<M: Middleware, S: Inner> Service<Request<Body>> for Wrapped<M, S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.middleware.call(&mut self.inner, request)
    }
}
