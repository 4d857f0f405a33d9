//! Admission: refuses calls beyond the [`ConcurrencyLimit`] at once, before any work is done for them. A queue would
//! only hide the overload until every caller's deadline has passed.
//!
//! A call runs until the work that it started has ended: a caller that hangs up makes no room for its next call
//! (CVE-2023-44487).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Request;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

use super::{
    super::status,
    middleware::{Answer, Inner, Middleware},
    raw_body::LongStream,
};
use crate::{
    net::concurrency_limit::{ConcurrencyLimit, Permit},
    ops::permit::{hold, within},
    telemetry::metrics::Metrics,
};

/// Refuses calls beyond the limit, and all of them once the server drains. Health checks always pass.
pub struct Admission {
    /// The calls that may run.
    pub limit: Arc<ConcurrencyLimit>,
    /// Set when the server stops.
    pub draining: Arc<AtomicBool>,
    /// Counts refused calls.
    pub metrics: Arc<Metrics>,
}

impl Admission {
    fn admit(&self, path: &str) -> Result<Option<Permit>, Status> {
        if path.starts_with("/grpc.health.") {
            return Ok(None);
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err(status::draining());
        }
        self.limit.try_acquire().map(Some).ok_or_else(|| {
            self.metrics.rpcs_shed.inc();
            status::overloaded("too many calls are running")
        })
    }
}

impl Middleware for Admission {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        let permit = match self.admit(request.uri().path()) {
            Ok(permit) => permit.map(|permit| within(Arc::new(permit))),
            Err(refused) => return Box::pin(async move { Ok(refused.into_http()) }),
        };
        let work = hold(permit.clone(), inner.call(request));
        Box::pin(async move {
            let response = work.await?;
            if response.extensions().get::<LongStream>().is_some() {
                return Ok(response);
            }
            // A call that answers with a stream runs until the stream ends.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _permit = &permit;
                    frame
                }))
            }))
        })
    }
}
