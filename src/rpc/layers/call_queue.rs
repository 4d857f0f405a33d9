//! Lets only a few calls of some methods run at once, in turns: see [`FairQueue`]. A call that waits for its turn does
//! not run yet, so it does not count against the limit on running calls.
//!
//! Calls of shared methods that ask the same while they wait get one answer. They are calls whose answer does not
//! depend on who calls, and whose callers were let in before: see [`auth`](super::auth). The work for a shared answer
//! goes on without the caller whose call began it.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tracing::Instrument;

use super::{
    super::status,
    deadline::Deadline,
    middleware::{Answer, Inner, Middleware, Response},
};
use crate::{
    auth::access::Access,
    net::{
        connection::Remote,
        fair_queue::{Asked, FairQueue, Permit, Question, Turn},
    },
    ops::permit::hold,
    telemetry::metrics::Metrics,
};

/// A longer message is not compared with others.
const MAX_QUESTION: usize = 4096;

/// Queues the calls of some methods.
pub struct CallQueue {
    class: &'static str,
    methods: HashSet<String>,
    shares_answers: bool,
    queue: Arc<FairQueue<SharedAnswer>>,
    metrics: Arc<Metrics>,
}

impl CallQueue {
    /// Lets `max` calls of these `methods` run at once; `class` names them in the metrics.
    pub fn new(class: &'static str, methods: HashSet<String>, max: usize, metrics: Arc<Metrics>) -> Self {
        let queue = FairQueue::new(class, max, Arc::clone(&metrics));
        Self { class, methods, shares_answers: false, queue, metrics }
    }

    /// The same, and calls that ask the same while they wait get one answer.
    #[must_use]
    pub fn sharing_answers(self) -> Self {
        Self { shares_answers: true, ..self }
    }

    /// Answers a call when it is its turn, or when another has its answer.
    async fn answer<S: Inner>(&self, mut inner: S, request: Request<Body>) -> Response {
        let (request, asked) = match self.ask(request).await {
            Ok(asked) => asked,
            Err(refused) => return refused.into_http(),
        };
        match self.queue.acquire(asked).await {
            Some(Turn::Run(permit)) if self.shares_answers => self.share(permit, inner, request).await.into_response(),
            Some(Turn::Run(permit)) => {
                // Called inside `hold`: the layers within add their own permit to the one that is held.
                hold(Some(Arc::new(permit)), async move { answer_of(&mut inner, request).await }).await
            }
            Some(Turn::Answered(answer)) => answer.into_response(),
            None => {
                self.metrics.rpcs_shed.inc();
                status::overloaded("too many such calls are waiting").into_http()
            }
        }
    }

    /// What the queue has to know of a call, and the call.
    async fn ask(&self, request: Request<Body>) -> Result<(Request<Body>, Asked), Status> {
        // Every connection of the listener has its remote end among the extensions.
        let client = request.extensions().get::<Remote>().map_or(0, |remote| remote.client.number());
        let bytes = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
        let deadline = request.extensions().get::<Deadline>().map_or_else(Instant::now, Deadline::answer);
        let mut asked = Asked { client, bytes, deadline, question: None };
        let is_own = request.extensions().get::<Access>().is_none_or(|access| access.only().is_some());
        if !self.shares_answers || is_own || bytes > MAX_QUESTION {
            return Ok((request, asked));
        }
        // The whole message is there: `message_buffer` has waited for it.
        let (parts, body) = request.into_parts();
        let message = body.collect().await?.to_bytes();
        let encoding = parts.headers.get("grpc-encoding").map_or(&b""[..], |encoding| encoding.as_bytes());
        asked.question = Some(Question::from([parts.uri.path().as_bytes(), b"\0", encoding, b"\0", &message].concat()));
        Ok((Request::from_parts(parts, Body::new(Full::new(message))), asked))
    }

    /// Runs a call for its caller and those that follow, even if its caller hangs up.
    async fn share<S: Inner>(
        &self,
        permit: Permit<SharedAnswer>,
        mut inner: S,
        mut request: Request<Body>,
    ) -> SharedAnswer {
        let followers = permit.take_followers();
        let shared = u64::try_from(followers.count()).unwrap_or(u64::MAX);
        self.metrics.calls_shared.with_label_values(&[self.class]).inc_by(shared);
        if let (Some(deadline), Some(latest)) = (request.extensions_mut().get_mut::<Deadline>(), followers.deadline()) {
            deadline.extend_to(latest);
        }
        let work =
            hold(Some(Arc::new(permit)), async move { SharedAnswer::of(answer_of(&mut inner, request).await).await });
        // A task within a task: if the work crashes, its followers are answered all the same.
        let work = tokio::spawn(work.in_current_span());
        let answered = tokio::spawn(async move {
            let answer = match work.await {
                Ok(answer) => answer,
                Err(_) => SharedAnswer::of(status::internal().into_http()).await,
            };
            followers.answer(&answer);
            answer
        });
        match answered.await {
            Ok(answer) => answer,
            Err(_) => SharedAnswer::of(status::internal().into_http()).await,
        }
    }
}

impl Middleware for CallQueue {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        if !self.methods.contains(request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        let (layer, inner) = (Arc::clone(self), inner.take());
        Box::pin(async move { Ok(layer.answer(inner, request).await) })
    }
}

async fn answer_of<S: Inner>(inner: &mut S, request: Request<Body>) -> Response {
    inner.call(request).await.unwrap_or_else(|never| match never {})
}

/// A whole response, for any number of callers.
#[derive(Clone)]
struct SharedAnswer {
    status: StatusCode,
    headers: HeaderMap,
    message: Bytes,
    trailers: Option<HeaderMap>,
}

impl SharedAnswer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let (message, trailers) = match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().cloned();
                (body.to_bytes(), trailers)
            }
            Err(broken) => (Bytes::new(), Some(status::trailers(&broken))),
        };
        Self { status: parts.status, headers: parts.headers, message, trailers }
    }

    fn into_response(self) -> Response {
        let Self { status, headers, message, trailers } = self;
        let body = match trailers {
            None => Body::new(Full::new(message)),
            Some(trailers) => Body::new(Full::new(message).with_trailers(async { Some(Ok(trailers)) })),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
