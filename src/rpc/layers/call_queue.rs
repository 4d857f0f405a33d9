//! Lets only a few calls of some methods run at once, in turns: see [`FairQueue`]. A call that waits for its turn does
//! not run yet, so it does not count against the limit on running calls.

use std::{collections::HashSet, sync::Arc};

use http::Request;
use http_body::Body as _;
use tonic::body::Body;

use super::{
    super::status,
    middleware::{Answer, Inner, Middleware},
};
use crate::{
    net::{connection::Remote, fair_queue::FairQueue},
    ops::permit::hold,
    telemetry::metrics::Metrics,
};

/// Queues the calls of some methods.
pub struct CallQueue {
    methods: HashSet<String>,
    queue: Arc<FairQueue>,
    metrics: Arc<Metrics>,
}

impl CallQueue {
    /// Lets `max` calls of these `methods` run at once; `class` names them in the metrics.
    pub fn new(class: &'static str, methods: HashSet<String>, max: usize, metrics: Arc<Metrics>) -> Self {
        Self { methods, queue: FairQueue::new(class, max, Arc::clone(&metrics)), metrics }
    }
}

impl Middleware for CallQueue {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        if !self.methods.contains(request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        let (layer, mut inner) = (Arc::clone(self), inner.take());
        Box::pin(async move {
            // Every connection of the listener has its remote end among the extensions.
            let client = request.extensions().get::<Remote>().map_or(0, |remote| remote.client.number());
            let bytes = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
            let Some(permit) = layer.queue.acquire(client, bytes).await else {
                layer.metrics.rpcs_shed.inc();
                return Ok(status::overloaded("too many such calls are waiting").into_http());
            };
            // Called inside `hold`: the layers within add their own permit to the one that is held.
            hold(Some(Arc::new(permit)), async move { inner.call(request).await }).await
        })
    }
}
