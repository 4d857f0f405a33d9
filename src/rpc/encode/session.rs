//! Sessions.

use super::value::timestamp;
use crate::{
    auth::{principal::Role, sessions::record::Session},
    config::SessionKind,
    rpc::pb,
};

/// A session; `is_current` if the call was made with its token.
pub fn session(session: &Session, is_current: bool) -> pb::Session {
    pb::Session {
        session_id: session.id.to_string(),
        user_id: session.user_id.to_string(),
        roles: session.roles.iter().map(|it| role(it).into()).collect(),
        kind: match session.kind {
            SessionKind::Sliding => pb::SessionKind::Sliding,
            SessionKind::Fixed => pb::SessionKind::Fixed,
        }
        .into(),
        create_time: Some(timestamp(session.created)),
        expire_time: Some(timestamp(session.expires)),
        end_time: Some(timestamp(session.ends)),
        last_use_time: Some(timestamp(session.used)),
        created_by: session.created_by.clone(),
        description: session.description.clone(),
        current: is_current,
    }
}

/// A role.
pub const fn role(role: Role) -> pb::Role {
    match role {
        Role::Admin => pb::Role::Admin,
        Role::EventManager => pb::Role::EventManager,
        Role::Service => pb::Role::Service,
        Role::User => pb::Role::User,
        Role::Reader => pb::Role::Reader,
        Role::BoxOffice => pb::Role::BoxOffice,
    }
}
