//! Streams beside the service's own, which their callers may leave open for as long as they like: watches of
//! the health, and reflection. They take no place of a call under way, so they have places of their own; and
//! reflection, which has nothing to wait for, ends after a while.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request};
use http_body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{super::status, Response};

/// Watches of the health at once: a load balancer or a client has one on each of its connections.
const MAX_HEALTH_WATCHES: usize = 2048;
/// Streams of reflection at once.
const MAX_REFLECTIONS: usize = 64;

/// Bounds the streams aside.
#[derive(Clone)]
pub struct AsideLayer {
    health: Arc<Semaphore>,
    reflection: Arc<Semaphore>,
    longest: Duration,
}

impl AsideLayer {
    /// Ends streams of reflection after `longest`.
    pub fn new(longest: Duration) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { health: places(MAX_HEALTH_WATCHES), reflection: places(MAX_REFLECTIONS), longest }
    }
}

impl<S> Layer<S> for AsideLayer {
    type Service = AsideService<S>;

    fn layer(&self, inner: S) -> AsideService<S> {
        AsideService { inner, settings: self.clone() }
    }
}

/// See [`AsideLayer`].
#[derive(Clone)]
pub struct AsideService<S> {
    inner: S,
    settings: AsideLayer,
}

impl<S, E> Service<Request<Body>> for AsideService<S>
where
    S: Service<Request<Body>, Response = Response, Future = BoxFuture<'static, Result<Response, E>>, Error = E>,
    E: Send + 'static,
{
    type Response = Response;
    type Error = E;
    type Future = BoxFuture<'static, Result<Response, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let (places, longest) = if path == "/grpc.health.v1.Health/Watch" {
            (&self.settings.health, None)
        } else if path.starts_with("/grpc.reflection.") {
            (&self.settings.reflection, Some(self.settings.longest))
        } else {
            return self.inner.call(request);
        };
        match Arc::clone(places).try_acquire_owned() {
            Err(_) => Box::pin(async { Ok(status::overloaded("too many streams of this kind are open").into_http()) }),
            Ok(place) => {
                let work = self.inner.call(request);
                Box::pin(async move {
                    let end = longest.map(|longest| Box::pin(sleep(longest)));
                    Ok(work.await?.map(|body| Body::new(Bounded { body: Some(body), end, _place: place })))
                })
            }
        }
    }
}

/// The end of a stream that tonic answers by itself, with a reason if it is a no.
fn with_reason(frame: Frame<Bytes>) -> Frame<Bytes> {
    let refused = frame.trailers_ref().and_then(Status::from_header_map);
    let Some(refused) = refused.filter(|it| it.code() != Code::Ok && it.details().is_empty()) else { return frame };
    let mut trailers = HeaderMap::new();
    match status::explained(&refused).add_header(&mut trailers) {
        Ok(()) => Frame::trailers(trailers),
        // Text that is no header's, which none of tonic's is.
        Err(_) => frame,
    }
}

/// The body of a stream aside.
struct Bounded {
    body: Option<Body>,
    end: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            // What answers is dropped with its body, and ends.
            this.body = None;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(
                status::deadline().add_header(&mut trailers).is_ok().then(|| Ok(Frame::trailers(trailers))),
            );
        }
        Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map(with_reason)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
