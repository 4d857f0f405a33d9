//! Authentication and permissions: the guard decides about every call before anything else is done for it. A stream ends
//! when the credentials that opened it do.

use std::{collections::HashSet, sync::Arc};

use futures::future::pending;
use http::Request;
use http_body_util::BodyExt;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use super::{
    super::status,
    drain_body,
    middleware::{Answer, Inner, Middleware, Response},
    stream_end::ended_by,
};
use crate::{
    auth::{
        access::{Access, Credentials},
        clock,
        guard::{Call, Guard, Peer, Verdict},
    },
    domain::{caller::Caller, ids::UserId},
    net::connection::Remote,
};

/// The RPC whose handler refuses callers that would grant more than they may.
const GRANTS: &str = "/reservd.v1.SessionService/CreateSession";

/// The access of a request. Without this layer there is none.
pub fn access_of<T>(request: &tonic::Request<T>) -> Result<&Access, Status> {
    request.extensions().get().ok_or_else(status::not_authorized)
}

/// The caller of a request's command.
pub fn caller_of<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    access_of(request).map(Access::caller)
}

/// The one user whose data a request reaches; None: all users.
pub fn only_of<T>(request: &tonic::Request<T>) -> Result<Option<UserId>, Status> {
    access_of(request).map(|access| access.only().cloned())
}

/// Lets the guard decide about every call.
pub struct Auth {
    /// Decides.
    pub guard: Arc<Guard>,
    /// The RPCs that answer with streams.
    pub streams: HashSet<String>,
}

impl Middleware for Auth {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        let peer = peer_of(&request);
        let verdict = self.guard.decide(call(&request, &peer));
        if !matches!(verdict, Verdict::LookupNeeded) {
            return self.follow(verdict, inner, request);
        }
        let (auth, mut inner) = (Arc::clone(self), inner.take());
        Box::pin(async move {
            // In parts: a body must not be shared between threads, which a reference over an await would do.
            let (parts, body) = request.into_parts();
            let asked = Call { method: parts.uri.path(), headers: &parts.headers, peer: &peer };
            let verdict = auth.guard.decide_with_lookup(asked).await;
            auth.follow(verdict, &mut inner, Request::from_parts(parts, body)).await
        })
    }
}

impl Auth {
    /// Lets a call in, or refuses it.
    fn follow<S: Inner>(&self, verdict: Verdict, inner: &mut S, mut request: Request<Body>) -> Answer {
        let access = match verdict {
            Verdict::Granted(access) => access,
            Verdict::Denied(denial) => return refused(request, status::denied(&denial)),
            // Only from a guard that asks again after it has asked.
            Verdict::LookupNeeded => return refused(request, status::internal()),
        };
        let stream = if self.streams.contains(request.uri().path()) {
            match self.guard.open_stream(&access, call(&request, &peer_of(&request))) {
                Ok(place) => Some((access.credentials.clone(), place)),
                Err(denial) => return refused(request, status::denied(&denial)),
            }
        } else {
            None
        };
        let may_be_refused = access.only().is_some() || request.uri().path() == GRANTS;
        let refusable = may_be_refused.then(|| Refusable::of(&request, &access));
        request.extensions_mut().insert(access);
        let (guard, work) = (Arc::clone(&self.guard), inner.call(request));
        Box::pin(async move {
            let response = work.await?;
            if let Some(refusable) = refusable {
                refusable.note_refusal(&guard, &response);
            }
            let Some((credentials, place)) = stream else { return Ok(response) };
            let response = response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _place = &place;
                    frame
                }))
            });
            Ok(match credentials {
                Some(credentials) => ended_by(response, end_of(credentials)),
                None => response,
            })
        })
    }
}

fn refused(request: Request<Body>, status: Status) -> Answer {
    drain_body::drain(request.into_body());
    Box::pin(async move { Ok(status.into_http()) })
}

fn peer_of(request: &Request<Body>) -> Peer {
    // Every connection of the listener has its remote end among the extensions.
    let peer = request.extensions().get::<Remote>().map(|remote| remote.peer.clone());
    peer.unwrap_or(Peer { address: [0, 0, 0, 0].into(), certificate: None, last_token: Arc::default() })
}

fn call<'c>(request: &'c Request<Body>, peer: &'c Peer) -> Call<'c> {
    Call { method: request.uri().path(), headers: request.headers(), peer }
}

/// Ends when the credentials of a stream do, with the status for it. It holds them as long as the stream lives: their
/// session counts as used until then.
async fn end_of(credentials: Arc<Credentials>) -> Status {
    let expiry = async {
        match credentials.expires_at {
            Some(at) => clock::reaches(at).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = credentials.revoked.cancelled() => status::credentials_ended(),
        () = expiry => status::credentials_ended(),
        () = credentials.unverifiable.cancelled() => status::sessions_unavailable(),
    }
}

/// What the guard has to know of a call that its handler may refuse, for the user that it acts for or the roles that it
/// grants.
struct Refusable {
    method: String,
    peer: Peer,
    access: Access,
}

impl Refusable {
    fn of(request: &Request<Body>, access: &Access) -> Self {
        Self { method: request.uri().path().to_owned(), peer: peer_of(request), access: access.clone() }
    }

    fn note_refusal(&self, guard: &Guard, response: &Response) {
        let refused = Status::from_header_map(response.headers());
        if let Some(refused) = refused.filter(|refused| refused.code() == Code::PermissionDenied) {
            let reason = refused.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            let call = Call { method: &self.method, headers: response.headers(), peer: &self.peer };
            guard.record_denial(call, self.access.principal(), &reason, None);
        }
    }
}
