//! Limits on the streams of health and reflection, which their callers may leave open for as long as they like. They
//! have nothing to do with the ledger's own limits. Reflection, which has nothing to wait for, also ends after a while.

use std::{sync::Arc, time::Duration};

use futures::future::pending;
use http::Request;
use http_body_util::BodyExt;
use tokio::time::sleep;
use tonic::body::Body;

use super::{
    super::status,
    explain::explained_end,
    middleware::{Answer, Inner, Middleware},
    stream_end::ended_by,
};
use crate::{
    auth::guard::network_of,
    net::{
        connection::Remote,
        peer_slots::{MaxSlots, PeerSlots},
    },
};

/// Health watches at once: a load balancer or a client has one on each of its connections, or one for each service.
const MAX_HEALTH_WATCHES: MaxSlots = MaxSlots { total: 2048, per_address: 512, per_connection: 8 };
/// Reflection streams at once.
const MAX_REFLECTIONS: MaxSlots = MaxSlots { total: 64, per_address: 32, per_connection: 8 };

/// Limits the streams of one service.
pub struct StreamLimit {
    slots: Arc<PeerSlots>,
    /// The method that this is about; None: all of the service.
    method: Option<&'static str>,
    max_time: Option<Duration>,
}

impl StreamLimit {
    /// For the health service.
    pub fn health() -> Self {
        let slots = PeerSlots::new(MAX_HEALTH_WATCHES);
        Self { slots, method: Some("/grpc.health.v1.Health/Watch"), max_time: None }
    }

    /// For the reflection services, whose streams end after `max_time`.
    pub fn reflection(max_time: Duration) -> Self {
        Self { slots: PeerSlots::new(MAX_REFLECTIONS), method: None, max_time: Some(max_time) }
    }
}

impl Middleware for StreamLimit {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        if self.method.is_some_and(|method| method != request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        // Every connection of the listener has its remote end among the extensions.
        let remote = request.extensions().get::<Remote>();
        let slot = remote.and_then(|it| self.slots.take(network_of(it.peer.address), it.client.number()));
        let Some(slot) = slot else {
            return Box::pin(async { Ok(status::overloaded("too many streams of this kind are open").into_http()) });
        };
        let (work, max_time, evicted) = (inner.call(request), self.max_time, slot.evicted.clone());
        Box::pin(async move {
            let response = work.await?.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _slot = &slot;
                    explained_end(frame)
                }))
            });
            let timed_out = async move {
                match max_time {
                    Some(max_time) => sleep(max_time).await,
                    None => pending().await,
                }
            };
            Ok(ended_by(response, async move {
                tokio::select! {
                    () = evicted.cancelled_owned() => status::overloaded("the stream makes room for another client's"),
                    () = timed_out => status::deadline(),
                }
            }))
        })
    }
}
