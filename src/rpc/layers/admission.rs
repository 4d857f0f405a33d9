//! Admission: refuses calls beyond the [`ConcurrencyLimit`] at once, before any work is done for them. A queue would
//! only hide the overload until every caller's deadline has passed.
//!
//! A call runs until the work that it started has ended: a caller that hangs up makes no room for its next call
//! (CVE-2023-44487).

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
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

/// Whether the server takes calls: not before it has reached its database, and not once it drains.
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;

impl Gate {
    /// Takes calls from now on.
    pub fn open(&self) {
        self.0.store(OPEN, Ordering::Relaxed);
    }

    /// Refuses all further calls.
    pub fn drain(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), Status> {
        match self.0.load(Ordering::Relaxed) {
            STARTING => Err(status::starting()),
            DRAINING => Err(status::draining()),
            _ => Ok(()),
        }
    }
}

/// Refuses calls beyond the limit, and all of them while the gate is closed. Health checks always pass.
pub struct Admission {
    /// The calls that may run.
    pub limit: Arc<ConcurrencyLimit>,
    /// Whether the server takes calls.
    pub gate: Arc<Gate>,
    /// Counts refused calls.
    pub metrics: Arc<Metrics>,
}

impl Admission {
    fn admit(&self, path: &str) -> Result<Option<Permit>, Status> {
        if path.starts_with("/grpc.health.") {
            return Ok(None);
        }
        self.gate.check()?;
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
