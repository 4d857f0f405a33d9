//! Authentication and permissions: every call is decided about before anything else is done for it; a
//! stream ends when what its caller has shown is good no more.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Request;
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};

use super::{super::status, Response, take_ready, unread};
use crate::{
    auth::{
        access::{Access, Credentials},
        clock,
        guard::{Call, Guard, Peer, StreamPermit, Verdict},
    },
    domain::{self, ids::UserId},
    rpc::listen::Caller,
};

/// The access that this layer gave to a request. Where the layer is missing there is none.
pub fn access_of<T>(request: &tonic::Request<T>) -> Result<&Access, Status> {
    request.extensions().get().ok_or_else(status::not_asked_for)
}

/// The caller of a request's command.
pub fn caller_of<T>(request: &tonic::Request<T>) -> Result<domain::caller::Caller, Status> {
    access_of(request).map(Access::caller)
}

/// The one user whose things a request reaches; all users' if none.
pub fn only_of<T>(request: &tonic::Request<T>) -> Result<Option<UserId>, Status> {
    access_of(request).map(|access| access.only().cloned())
}

/// Asks the guard about every call.
#[derive(Clone)]
pub struct AuthLayer {
    guard: Arc<Guard>,
    streams: Arc<HashSet<String>>,
}

impl AuthLayer {
    /// Asks this guard; `streams` are the RPCs that answer with streams.
    pub fn new(guard: Arc<Guard>, streams: HashSet<String>) -> Self {
        Self { guard, streams: Arc::new(streams) }
    }

    /// Lets a call in that was granted access.
    fn admit<S>(&self, inner: &mut S, request: Request<Body>, access: Access) -> BoxFuture<'static, Answer<S>>
    where
        S: Service<Request<Body>, Response = Response>,
        S::Future: Send + 'static,
        S::Error: 'static,
    {
        let watched = if self.streams.contains(request.uri().path()) {
            match self.guard.open_stream(&access, call(&request, &peer_of(&request))) {
                Ok(place) => Some((access.credentials.clone(), place)),
                Err(denial) => return refused::<S>(request, status::denied(&denial)),
            }
        } else {
            None
        };
        let may_be_refused = access.only().is_some() || request.uri().path() == GRANTS;
        let asked = may_be_refused.then(|| Asked::of(&request, &access));
        let mut request = request;
        request.extensions_mut().insert(access);
        let (guard, work) = (Arc::clone(&self.guard), inner.call(request));
        Box::pin(async move {
            let response = work.await?;
            if let Some(asked) = asked {
                asked.note_refusal(&guard, &response);
            }
            Ok(match watched {
                Some((credentials, place)) => response.map(|body| Body::new(Watched::new(body, credentials, place))),
                None => response,
            })
        })
    }
}

type Answer<S> = Result<Response, <S as Service<Request<Body>>>::Error>;

fn refused<S: Service<Request<Body>>>(request: Request<Body>, status: Status) -> BoxFuture<'static, Answer<S>>
where
    S::Error: 'static,
{
    unread::forget(request.into_body());
    Box::pin(async move { Ok(status.into_http()) })
}

fn peer_of(request: &Request<Body>) -> Peer {
    // Every connection of ours says who is there.
    let caller = request.extensions().get::<Caller>().map(|caller| caller.peer.clone());
    caller.unwrap_or(Peer { address: [0, 0, 0, 0].into(), certificate: None, last_token: Arc::default() })
}

fn call<'c>(request: &'c Request<Body>, peer: &'c Peer) -> Call<'c> {
    Call { method: request.uri().path(), headers: request.headers(), peer }
}

/// The RPC whose handler refuses those who would give more than is theirs to give.
const GRANTS: &str = "/reservd.v1.SessionService/CreateSession";

/// What has to be known of a call in case that its handler refuses it for whom it acts for, or what it
/// would give.
struct Asked {
    method: String,
    peer: Peer,
    access: Access,
}

impl Asked {
    fn of(request: &Request<Body>, access: &Access) -> Self {
        Self { method: request.uri().path().to_owned(), peer: peer_of(request), access: access.clone() }
    }

    fn note_refusal(&self, guard: &Guard, response: &Response) {
        let refused = Status::from_header_map(response.headers());
        if let Some(refused) = refused.filter(|refused| refused.code() == Code::PermissionDenied) {
            let reason = refused.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            let call = Call { method: &self.method, headers: response.headers(), peer: &self.peer };
            guard.record_denial(call, self.access.principal(), &reason);
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { inner, settings: self.clone() }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub struct AuthService<S> {
    inner: S,
    settings: AuthLayer,
}

impl<S> Service<Request<Body>> for AuthService<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Answer<S>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = peer_of(&request);
        match self.settings.guard.decide(call(&request, &peer)) {
            Verdict::Granted(access) => self.settings.admit(&mut self.inner, request, access),
            Verdict::Denied(denial) => refused::<S>(request, status::denied(&denial)),
            Verdict::LookupNeeded => {
                let mut inner = take_ready(&mut self.inner);
                let settings = self.settings.clone();
                Box::pin(async move {
                    let (parts, body) = request.into_parts();
                    let asked = Call { method: parts.uri.path(), headers: &parts.headers, peer: &peer };
                    match settings.guard.decide_with_lookup(asked).await {
                        Verdict::Granted(access) => {
                            settings.admit(&mut inner, Request::from_parts(parts, body), access).await
                        }
                        Verdict::Denied(denial) => {
                            unread::forget(body);
                            Ok(status::denied(&denial).into_http())
                        }
                        Verdict::LookupNeeded => Ok(status::internal().into_http()),
                    }
                })
            }
        }
    }
}

/// The body of a stream, which ends early when its caller's credentials do.
struct Watched {
    body: Body,
    end: Option<End>,
    _place: Option<StreamPermit>,
}

struct End {
    /// Held as long as the stream: who looks after sessions sees by it that this one is in use.
    _credentials: Arc<Credentials>,
    withdrawn: Pin<Box<WaitForCancellationFutureOwned>>,
    unsure: Pin<Box<WaitForCancellationFutureOwned>>,
    expiry: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(body: Body, credentials: Option<Arc<Credentials>>, place: Option<StreamPermit>) -> Self {
        let end = credentials.map(|credentials| End {
            withdrawn: Box::pin(credentials.revoked.clone().cancelled_owned()),
            unsure: Box::pin(credentials.unverifiable.clone().cancelled_owned()),
            expiry: credentials.expires_at.map(|at| {
                let left = u64::try_from(at.saturating_sub(clock::now())).unwrap_or(0);
                Box::pin(sleep(Duration::from_secs(left)))
            }),
            _credentials: credentials,
        });
        Self { body, end, _place: place }
    }
}

impl End {
    /// Ready with the status that the stream ends with.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let is_over = self.withdrawn.as_mut().poll(cx).is_ready()
            || self.expiry.as_mut().is_some_and(|expiry| expiry.as_mut().poll(cx).is_ready());
        if is_over {
            return Poll::Ready(status::credentials_ended());
        }
        self.unsure.as_mut().poll(cx).map(|()| status::sessions_unavailable())
    }
}

impl http_body::Body for Watched {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(Poll::Ready(over)) = self.end.as_mut().map(|end| end.poll(cx)) {
            // What made the stream is dropped with its body, and ends.
            self.body = Body::empty();
            self.end = None;
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(over.add_header(&mut trailers).is_ok().then(|| Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
