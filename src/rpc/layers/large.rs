//! Large answers, so many at once: see [`LargeAnswers`]. A call that waits for its turn is not under way yet,
//! and takes no place among those that are; once it is made, the answer is up to the pace of its client.

use std::{
    collections::HashSet,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Request;
use http_body::Body as _;
use prost::Message;
use prost_types::{FileDescriptorSet, field_descriptor_proto};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    super::{large_answers::LargeAnswers, status},
    Response,
    observe::method_paths,
    take_ready,
};
use crate::{ops::permit::hold, rpc::listen::Caller, telemetry::metrics::Metrics};

/// The RPCs in an encoded set of descriptors that answer with any number of messages at once; but not those
/// that were sent as many: what they answer is about as long, and they may have to wait for locks.
pub fn large_answers(encoded: &[u8]) -> HashSet<String> {
    let mut large = HashSet::new();
    for file in FileDescriptorSet::decode(encoded).unwrap_or_default().file {
        for message in &file.message_type {
            let has_many = message.field.iter().any(|field| {
                field.label() == field_descriptor_proto::Label::Repeated
                    && field.r#type() == field_descriptor_proto::Type::Message
            });
            if has_many {
                large.insert(format!(".{}.{}", file.package(), message.name()));
            }
        }
    }
    method_paths(&[encoded], |method| {
        !method.server_streaming() && large.contains(method.output_type()) && !large.contains(method.input_type())
    })
}

/// Lets so many large answers be made at once.
#[derive(Clone)]
pub struct LargeLayer {
    methods: Arc<HashSet<String>>,
    answers: Arc<LargeAnswers>,
    metrics: Arc<Metrics>,
}

impl LargeLayer {
    /// Lets `max` calls of these `methods` be under way at once.
    pub fn new(methods: HashSet<String>, max: usize, metrics: Arc<Metrics>) -> Self {
        Self { methods: Arc::new(methods), answers: LargeAnswers::new(max, Arc::clone(&metrics)), metrics }
    }
}

impl<S> Layer<S> for LargeLayer {
    type Service = LargeService<S>;

    fn layer(&self, inner: S) -> LargeService<S> {
        LargeService { inner, settings: self.clone() }
    }
}

/// See [`LargeLayer`].
#[derive(Clone)]
pub struct LargeService<S> {
    inner: S,
    settings: LargeLayer,
}

impl<S, E> Service<Request<Body>> for LargeService<S>
where
    S: Service<Request<Body>, Response = Response, Future = BoxFuture<'static, Result<Response, E>>, Error = E>
        + Clone
        + Send
        + 'static,
    E: Send + 'static,
{
    type Response = Response;
    type Error = E;
    type Future = BoxFuture<'static, Result<Response, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.settings.methods.contains(request.uri().path()) {
            return self.inner.call(request);
        }
        let mut inner = take_ready(&mut self.inner);
        let settings = self.settings.clone();
        Box::pin(async move {
            // Every connection of ours says who is there.
            let client = request.extensions().get::<Caller>().map_or(0, |caller| caller.client.number());
            let bytes = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
            let Some(turn) = settings.answers.turn(client, bytes).await else {
                settings.metrics.rpcs_shed.inc();
                return Ok(status::overloaded("too many lists and batches are asked for").into_http());
            };
            hold(Some(Arc::new(turn)), async move { inner.call(request).await }).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The others, those that reserve above all, have nothing to do with it.
    #[test]
    fn lists_and_batches_are_large() {
        let large = large_answers(crate::rpc::pb::DESCRIPTORS);
        let mut large: Vec<_> = large.iter().filter_map(|path| path.rsplit('/').next()).collect();
        large.sort_unstable();
        let expected = [
            "BatchGetAvailability",
            "GetContentionReport",
            "ListChanges",
            "ListEvents",
            "ListReservations",
            "ListSessions",
            "ListWaitlist",
        ];
        assert_eq!(large, expected);
    }
}
