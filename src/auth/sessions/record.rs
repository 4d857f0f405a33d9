//! A session as Redis stores it.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::record_key::RecordKey;
use crate::{
    auth::{
        principal::{Principal, Role, Roles},
        session_token::SessionId,
    },
    config::SessionKind,
    domain::{caller::Actor, ids::UserId, time::Timestamp},
};

/// A session to be opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its user.
    pub user_id: UserId,
    /// What its bearer may do.
    pub roles: Roles,
    /// When it expires.
    pub kind: SessionKind,
    /// Its lifetime since its last use, or for a fixed session since it was opened.
    pub lifetime: Duration,
    /// Who opens it.
    pub created_by: String,
    /// A description by its creator.
    pub description: String,
}

impl NewSession {
    /// The fields that never change, as they are stored and signed. The times are milliseconds since 1970.
    pub fn encode(&self, id: SessionId, created: u64, ends: u64) -> [String; 9] {
        let kind = match self.kind {
            SessionKind::Sliding => "sliding",
            SessionKind::Fixed => "fixed",
        };
        [
            id.to_string(),
            self.user_id.to_string(),
            encode_roles(self.roles),
            self.created_by.clone(),
            self.description.clone(),
            kind.to_owned(),
            self.lifetime.as_millis().to_string(),
            created.to_string(),
            ends.to_string(),
        ]
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its user.
    pub user_id: UserId,
    /// What its bearer may do.
    pub roles: Roles,
    /// When it expires.
    pub kind: SessionKind,
    /// Who opened it.
    pub created_by: String,
    /// A description by its creator.
    pub description: String,
    /// When it was opened. All times are by Redis's clock.
    pub created: Timestamp,
    /// When it was last used, to within a refresh interval.
    pub used: Timestamp,
    /// When it expires; a use of a sliding session postpones this.
    pub expires: Timestamp,
    /// When it expires at the latest.
    pub ends: Timestamp,
    /// Its lifetime since its last use.
    pub lifetime: Duration,
    /// The remaining time when Redis read it.
    pub left: Duration,
    /// The time since its last use, at that moment.
    pub idle: Duration,
}

/// The fields of a session that the scripts return; a missing field is `None`.
pub struct StoredSession([Option<String>; 13]);

impl FromRedisValue for StoredSession {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let fields: Vec<Option<String>> = FromRedisValue::from_redis_value(value)?;
        fields.try_into().map(Self).map_err(|_| "not the fields of a session".into())
    }
}

impl StoredSession {
    /// The session. None: reservd never writes such fields, so they grant no access. With a key, they are signed too.
    pub fn session(self, id: SessionId, key: Option<&RecordKey>) -> Option<Session> {
        let [
            user_id,
            roles,
            created_by,
            description,
            kind,
            lifetime,
            created,
            used,
            ends,
            expires,
            signature,
            left,
            now,
        ] = self.0;
        if let Some(key) = key {
            let signed = [&user_id, &roles, &created_by, &description, &kind, &lifetime, &created, &ends];
            let signed = signed.map(|field| field.as_deref().unwrap_or_default());
            let id = id.to_string();
            let fields = [&[id.as_str()][..], &signed].concat();
            key.verify(&fields, &signature?).then_some(())?;
        }
        let millis = |text: Option<String>| text?.parse::<i64>().ok();
        let span = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
        let moment = |millis: i64| millis.checked_mul(1000).and_then(Timestamp::from_micros);
        let (used, ends, left, now) = (millis(used)?, millis(ends)?, millis(left)?, millis(now)?);
        // Redis's own expiry is not signed.
        let left = left.min(ends.saturating_sub(now));
        Some(Session {
            id,
            user_id: UserId::parse(&user_id?)?,
            roles: decode_roles(&roles?)?,
            kind: match kind?.as_str() {
                "sliding" => SessionKind::Sliding,
                "fixed" => SessionKind::Fixed,
                _ => return None,
            },
            created_by: created_by?,
            description: description?,
            created: moment(millis(created)?)?,
            used: moment(used)?,
            expires: moment(millis(expires)?)?,
            ends: moment(ends)?,
            lifetime: span(millis(lifetime)?)?,
            left: span(left)?,
            idle: span(now.saturating_sub(used).max(0))?,
        })
    }
}

impl Session {
    /// The principal that its bearer is.
    pub fn principal(&self) -> Option<Principal> {
        let name = Actor::parse(&format!("session:{}", self.user_id))?;
        let user_id = self.roles.has(Role::User).then(|| self.user_id.clone());
        Some(Principal { name, roles: self.roles, user_id })
    }
}

/// The stored form of a set of roles, which is canonical.
pub fn encode_roles(roles: Roles) -> String {
    roles.names().collect::<Vec<_>>().join(" ")
}

/// An unknown role grants no access, instead of being ignored: only reservd writes roles here.
fn decode_roles(text: &str) -> Option<Roles> {
    let mut roles = Roles::default();
    for name in text.split_whitespace() {
        roles.add(Role::ALL.into_iter().find(|role| role.name() == name)?);
    }
    Some(roles)
}

#[cfg(test)]
mod tests;
