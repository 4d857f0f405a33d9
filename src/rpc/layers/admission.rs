//! Admission: so many RPCs at once over all connections, and the next is told so at once, before any
//! work is done for it. A queue would only hide the overload until every caller's time is over. What
//! keeps refusing from becoming all that is done is in [`seats`](crate::rpc::seats).
//!
//! A call is under way until the work that it started is done: a caller that hangs up makes no room
//! for its next call (CVE-2023-44487).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use http_body::Frame;
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    super::{
        seats::{Seat, Seats},
        status,
    },
    Response,
    streaming::LongStream,
};
use crate::{
    ops::permit::{Permit, hold, within},
    telemetry::metrics::Metrics,
};

/// Sheds RPCs beyond the limit, and all of them once the server drains. Health checks always pass.
#[derive(Clone)]
pub struct AdmissionLayer {
    seats: Arc<Seats>,
    draining: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl AdmissionLayer {
    /// Lets as many RPCs in at once as there are `seats`, until `draining` is set.
    pub const fn new(seats: Arc<Seats>, draining: Arc<AtomicBool>, metrics: Arc<Metrics>) -> Self {
        Self { seats, draining, metrics }
    }

    fn admit(&self, path: &str) -> Result<Option<Seat>, tonic::Status> {
        if path.starts_with("/grpc.health.") {
            return Ok(None);
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err(status::draining());
        }
        self.seats.take().map(Some).ok_or_else(|| {
            self.metrics.rpcs_shed.inc();
            status::overloaded("too many calls are under way")
        })
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> AdmissionService<S> {
        AdmissionService { inner, settings: self.clone() }
    }
}

/// See [`AdmissionLayer`].
#[derive(Clone)]
pub struct AdmissionService<S> {
    inner: S,
    settings: AdmissionLayer,
}

impl<S> Service<Request<Body>> for AdmissionService<S>
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
        match self.settings.admit(request.uri().path()) {
            Err(refused) => Box::pin(async move { Ok(refused.into_http()) }),
            Ok(seat) => {
                let place = seat.map(|seat| within(Arc::new(seat)));
                let work = hold(place.clone(), self.inner.call(request));
                Box::pin(async move {
                    let response = work.await?;
                    if response.extensions().get::<LongStream>().is_some() {
                        return Ok(response);
                    }
                    // A stream is under way until its body ends.
                    Ok(response.map(|body| Body::new(Admitted { body, _place: place })))
                })
            }
        }
    }
}

pin_project! {
    struct Admitted {
        #[pin]
        body: Body,
        _place: Option<Permit>,
    }
}

impl http_body::Body for Admitted {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
