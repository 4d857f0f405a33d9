//! SessionService: decode, one use case, encode.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    decode::{
        self,
        session::{self, Whose},
    },
    encode,
    layers::auth::access_of,
    page_token,
    pb::{self, session_service_server::SessionService},
    status,
};
use crate::auth::{
    access::{Access, Scope},
    denial::Denial,
    principal::{Principal, Role},
    session_token::SessionId,
    sessions::{
        self,
        record::Session,
        store::{SessionScope, SessionStoreError},
    },
};

/// The service.
pub struct Sessions {
    sessions: Option<Arc<sessions::Sessions>>,
}

/// The caller of a request, and which sessions it reaches.
struct Context {
    sessions: Arc<sessions::Sessions>,
    principal: Principal,
    reach: SessionScope,
    current: Option<SessionId>,
}

impl Sessions {
    /// Serves these sessions; without any, every call is refused.
    pub const fn new(sessions: Option<Arc<sessions::Sessions>>) -> Self {
        Self { sessions }
    }

    fn context<T>(&self, request: &Request<T>) -> Result<Context, Status> {
        let access = access_of(request)?;
        let sessions = self.sessions.clone().ok_or_else(status::sessions_disabled)?;
        // With sessions, every call is authenticated.
        let principal = access.principal().ok_or_else(status::not_authorized)?.clone();
        let current = access.credentials.as_ref().and_then(|credentials| credentials.session);
        Ok(Context { sessions, reach: reach_of(access, &principal), principal, current })
    }
}

/// A caller reaches no session with more roles than its own: a user those of itself, others those that they could have
/// created.
fn reach_of(access: &Access, principal: &Principal) -> SessionScope {
    match &access.scope {
        Scope::Own(user_id) => SessionScope::within(Some(user_id.clone()), principal.roles),
        Scope::All if principal.roles.has(Role::Admin) => SessionScope::ALL,
        Scope::All => SessionScope::within(None, session::grantable(principal)),
    }
}

impl Context {
    fn current(&self) -> Result<SessionId, Status> {
        self.current.ok_or_else(status::no_current_session)
    }

    async fn find(&self, id: SessionId, reach: &SessionScope) -> Result<Option<pb::Session>, Status> {
        let found = self.sessions.get(id, reach).await.map_err(|error| unavailable(&error))?;
        let session = found.ok_or_else(status::session_not_found)?;
        Ok(Some(self.encoded(&session)))
    }

    async fn revoke(&self, id: SessionId, reach: &SessionScope) -> Result<(), Status> {
        let was_there = self.sessions.revoke(id, reach).await.map_err(|error| unavailable(&error))?;
        if !was_there {
            return Err(status::session_not_found());
        }
        tracing::info!(by = %self.principal.name, session_id = %id, "a session was revoked");
        Ok(())
    }

    fn encoded(&self, session: &Session) -> pb::Session {
        encode::session(session, self.current == Some(session.id))
    }
}

fn unavailable(error: &SessionStoreError) -> Status {
    tracing::warn!(%error, "a call about sessions failed");
    status::sessions_unavailable()
}

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let context = self.context(&request)?;
        let wish = session::wish(request.into_inner(), context.sessions.settings(), &context.principal)?;
        let opened = context.sessions.open(&wish).await.map_err(|error| unavailable(&error))?;
        let (by, session_id, user_id) = (&context.principal.name, opened.session.id, &wish.user_id);
        let roles = wish.roles.names().collect::<Vec<_>>().join(",");
        tracing::info!(%by, %session_id, %user_id, roles, "a session was created");
        Ok(Response::new(pb::CreateSessionResponse {
            token: opened.token.expose().to_owned(),
            session: Some(context.encoded(&opened.session)),
            revoked_session_ids: opened.replaced.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_current_session(
        &self,
        request: Request<pb::GetCurrentSessionRequest>,
    ) -> Result<Response<pb::GetCurrentSessionResponse>, Status> {
        let context = self.context(&request)?;
        let found = context.find(context.current()?, &SessionScope::ALL).await?;
        Ok(Response::new(pb::GetCurrentSessionResponse { session: found }))
    }

    async fn revoke_current_session(
        &self,
        request: Request<pb::RevokeCurrentSessionRequest>,
    ) -> Result<Response<pb::RevokeCurrentSessionResponse>, Status> {
        let context = self.context(&request)?;
        context.revoke(context.current()?, &SessionScope::ALL).await?;
        Ok(Response::new(pb::RevokeCurrentSessionResponse {}))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let context = self.context(&request)?;
        let id = session::session_id(&request.into_inner().session_id)?;
        let found = context.find(id, &context.reach).await?;
        Ok(Response::new(pb::GetSessionResponse { session: found }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let context = self.context(&request)?;
        let only = access_of(&request)?.only().cloned();
        let mut message = request.into_inner();
        decode::restrict(&mut message.user_id, only)?;
        let token = std::mem::take(&mut message.page_token);
        let (user_id, size) = session::list_filter(&message)?;
        message.page_size = 0;
        let after = page_token::after(&message, &token, session::cursor)?;
        let found = context.sessions.list(&user_id, &context.reach).await.map_err(|error| unavailable(&error))?;
        let mut rest = found.iter().filter(|session| Some((session.created, session.id)) > after).peekable();
        let page: Vec<_> = rest.by_ref().take(size as usize).collect();
        let last = page.last().filter(|_| rest.peek().is_some());
        let next = last.map(|last| page_token::encode(&message, &(last.created, last.id.to_string())));
        Ok(Response::new(pb::ListSessionsResponse {
            sessions: page.into_iter().map(|session| context.encoded(session)).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        let context = self.context(&request)?;
        let id = session::session_id(&request.into_inner().session_id)?;
        context.revoke(id, &context.reach).await?;
        Ok(Response::new(pb::RevokeSessionResponse {}))
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<pb::RevokeUserSessionsRequest>,
    ) -> Result<Response<pb::RevokeUserSessionsResponse>, Status> {
        let context = self.context(&request)?;
        let only = access_of(&request)?.only().cloned();
        let mut message = request.into_inner();
        if message.created_by.is_empty() {
            decode::restrict(&mut message.user_id, only)?;
        } else if !context.principal.roles.has(Role::Admin) {
            return Err(status::denied(&Denial::Role(vec![Role::Admin.name()])));
        }
        let by = &context.principal.name;
        let whose = session::whose(message)?;
        let revoked = match &whose {
            Whose::User(user_id) => context.sessions.revoke_user(user_id, &context.reach, "call").await,
            Whose::Creator(principal) => context.sessions.revoke_created_by(principal).await,
        };
        let revoked = revoked.map_err(|error| unavailable(&error))?;
        tracing::info!(%by, %whose, revoked, "all sessions of a user or creator were revoked");
        Ok(Response::new(pb::RevokeUserSessionsResponse { revoked_session_count: revoked.cast_signed() }))
    }
}
