//! The messages of SessionService.

use std::{fmt, time::Duration};

use tonic::Status;

use crate::{
    auth::{
        principal::{Principal, Role, Roles},
        session_token::SessionId,
        sessions::record::NewSession,
    },
    config::{SessionKind, Sessions as Settings},
    domain::{caller::MAX_ACTOR_LENGTH, ids::UserId, time::Timestamp},
    rpc::{fields::Fields, page_token, pb, status},
};

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 256;
/// More roles than there are mean nothing new.
const MAX_ROLES: usize = 16;
/// The shortest lifetime of a session.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The roles that a principal may grant to a session: an admin all, and a service, which acts for users, only user.
pub fn grantable(principal: &Principal) -> Roles {
    if principal.roles.has(Role::Admin) {
        Roles::of(&Role::ALL)
    } else if principal.roles.has(Role::Service) {
        Roles::of(&[Role::User])
    } else {
        Roles::default()
    }
}

/// The session that `creator` asks for.
pub fn wish(m: pb::CreateSessionRequest, settings: &Settings, creator: &Principal) -> Result<NewSession, Status> {
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", &m.user_id);
    let roles = roles(&mut fields, &m.roles);
    let kind = match m.kind {
        0 => Some(settings.kind),
        other => fields.known::<pb::SessionKind>("kind", other).map(kind_of),
    };
    let lifetime = fields.span("lifetime", m.lifetime, &(MIN_LIFETIME..=settings.max_lifetime));
    let description = fields.text("description", m.description, MAX_DESCRIPTION);
    let wish = || {
        Some(NewSession {
            user_id: user_id?,
            roles: roles?,
            kind: kind?,
            lifetime: lifetime?.unwrap_or(settings.lifetime),
            created_by: creator.name.to_string(),
            description: description?,
        })
    };
    let wish = wish();
    let wish = fields.finish(wish)?;
    let grantable = grantable(creator);
    if !grantable.has_all(wish.roles) {
        return Err(status::role_not_grantable(&grantable.names().collect::<Vec<_>>().join(", ")));
    }
    Ok(wish)
}

fn roles(fields: &mut Fields, values: &[i32]) -> Option<Roles> {
    let mut roles = Roles::default();
    if values.is_empty() {
        roles.add(Role::User);
    }
    if values.len() > MAX_ROLES {
        fields.reject("roles", format!("must have at most {MAX_ROLES} items"));
        return None;
    }
    let mut are_known = true;
    for (place, value) in values.iter().enumerate() {
        match fields.known::<pb::Role>(&format!("roles[{place}]"), *value).and_then(role_of) {
            Some(role) => roles.add(role),
            None => are_known = false,
        }
    }
    are_known.then_some(roles)
}

const fn role_of(role: pb::Role) -> Option<Role> {
    match role {
        pb::Role::Unspecified => None,
        pb::Role::Admin => Some(Role::Admin),
        pb::Role::EventManager => Some(Role::EventManager),
        pb::Role::Service => Some(Role::Service),
        pb::Role::User => Some(Role::User),
        pb::Role::Reader => Some(Role::Reader),
        pb::Role::BoxOffice => Some(Role::BoxOffice),
    }
}

const fn kind_of(kind: pb::SessionKind) -> SessionKind {
    match kind {
        pb::SessionKind::Fixed => SessionKind::Fixed,
        pb::SessionKind::Sliding | pb::SessionKind::Unspecified => SessionKind::Sliding,
    }
}

/// The session that a message is about.
pub fn session_id(text: &str) -> Result<SessionId, Status> {
    let mut fields = Fields::default();
    let id = fields.session_id("session_id", text);
    fields.finish(id)
}

/// Whose sessions are revoked.
#[derive(Debug)]
pub enum Whose {
    /// Those of a user.
    User(UserId),
    /// Those that a principal created.
    Creator(String),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user_id) => write!(f, "user {user_id}"),
            Self::Creator(principal) => write!(f, "creator {principal}"),
        }
    }
}

/// Whose sessions a message revokes.
pub fn whose(message: pb::RevokeUserSessionsRequest) -> Result<Whose, Status> {
    let mut fields = Fields::default();
    if message.created_by.is_empty() {
        let id = fields.user_id("user_id", &message.user_id);
        return fields.finish(id.map(Whose::User));
    }
    if !message.user_id.is_empty() {
        fields.reject("created_by", "must be empty where user_id is set");
    }
    let creator = fields.text("created_by", message.created_by, MAX_ACTOR_LENGTH);
    fields.finish(creator.map(Whose::Creator))
}

/// Whose sessions a page holds, and how many.
pub fn list_filter(message: &pb::ListSessionsRequest) -> Result<(UserId, u32), Status> {
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", &message.user_id);
    let size = fields.page_size(message.page_size);
    fields.finish(user_id.zip(size))
}

/// The session after which a page begins.
pub fn cursor(filters: &pb::ListSessionsRequest, token: &str) -> Option<(Timestamp, SessionId)> {
    let (created, id) = page_token::decode::<(Timestamp, String)>(filters, token)?;
    Some((created, SessionId::parse(&id)?))
}

#[cfg(test)]
mod tests;
