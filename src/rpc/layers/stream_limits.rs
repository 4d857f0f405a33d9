//! Limits on the streams of health and reflection, which their callers may leave open for as long as they like. They
//! have nothing to do with the ledger's own limits. Reflection, which has nothing to wait for, also ends after a while.

use std::{sync::Arc, time::Duration};

use http::Request;
use http_body_util::BodyExt;
use tokio::{sync::Semaphore, time::sleep};
use tonic::body::Body;

use super::{
    super::status,
    explain::explained_end,
    middleware::{Answer, Inner, Middleware},
    stream_end::ended_by,
};

/// Health watches at once: a load balancer or a client has one on each of its connections.
const MAX_HEALTH_WATCHES: usize = 2048;
/// Reflection streams at once.
const MAX_REFLECTIONS: usize = 64;

/// Limits the streams of one service.
pub struct StreamLimit {
    open: Arc<Semaphore>,
    /// The method that this is about; None: all of the service.
    method: Option<&'static str>,
    max_time: Option<Duration>,
}

impl StreamLimit {
    /// For the health service.
    pub fn health() -> Self {
        let open = Arc::new(Semaphore::new(MAX_HEALTH_WATCHES));
        Self { open, method: Some("/grpc.health.v1.Health/Watch"), max_time: None }
    }

    /// For the reflection services, whose streams end after `max_time`.
    pub fn reflection(max_time: Duration) -> Self {
        Self { open: Arc::new(Semaphore::new(MAX_REFLECTIONS)), method: None, max_time: Some(max_time) }
    }
}

impl Middleware for StreamLimit {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        if self.method.is_some_and(|method| method != request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            return Box::pin(async { Ok(status::overloaded("too many streams of this kind are open").into_http()) });
        };
        let (work, max_time) = (inner.call(request), self.max_time);
        Box::pin(async move {
            let response = work.await?.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _open = &permit;
                    explained_end(frame)
                }))
            });
            Ok(match max_time {
                Some(max_time) => ended_by(response, async move {
                    sleep(max_time).await;
                    status::deadline()
                }),
                None => response,
            })
        })
    }
}
