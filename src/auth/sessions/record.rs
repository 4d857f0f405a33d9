//! A session as Redis stores it.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

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
pub struct StoredSession([Option<String>; 12]);

impl FromRedisValue for StoredSession {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let fields: Vec<Option<String>> = FromRedisValue::from_redis_value(value)?;
        fields.try_into().map(Self).map_err(|_| "not the fields of a session".into())
    }
}

impl StoredSession {
    /// The session. None: reservd never writes such fields, so they grant no access.
    pub fn session(self, id: SessionId) -> Option<Session> {
        let [user_id, roles, created_by, description, kind, lifetime, created, used, ends, expires, left, now] = self.0;
        let millis = |text: Option<String>| text?.parse::<i64>().ok();
        let span = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
        let moment = |millis: i64| millis.checked_mul(1000).and_then(Timestamp::from_micros);
        let (used, left, now) = (millis(used)?, millis(left)?, millis(now)?);
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
            ends: moment(millis(ends)?)?,
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

/// The stored form of a kind.
pub const fn encode_kind(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Sliding => "sliding",
        SessionKind::Fixed => "fixed",
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
mod tests {
    use super::*;

    fn stored(change: impl FnOnce(&mut [Option<String>; 12])) -> Option<Session> {
        let fields =
            ["ann", "user", "token:shop", "", "sliding", "60000", "1000", "2000", "90000", "53500", "50000", "3500"];
        let mut fields = fields.map(|text| Some(text.to_owned()));
        change(&mut fields);
        StoredSession(fields).session(SessionId::parse(&"A".repeat(43)).expect("an id"))
    }

    #[test]
    fn a_session_is_read_from_its_fields() {
        let session = stored(|_| {}).expect("good");
        assert_eq!(session.principal().expect("a principal").name.as_str(), "session:ann");
        assert_eq!((session.idle, session.left), (Duration::from_millis(1500), Duration::from_secs(50)));
        assert_eq!(session.expires.micros(), 53_500_000);
    }

    #[test]
    fn a_session_without_the_role_user_has_no_user_id() {
        let manager = stored(|fields| fields[1] = Some("event.manager".into())).expect("good");
        assert_eq!(manager.principal().expect("a principal").user_id, None);
    }

    #[test]
    fn malformed_fields_grant_no_access() {
        for place in 0..12 {
            assert_eq!(stored(|fields| fields[place] = None), None, "without field {place}");
        }
        for (place, wrong) in [(0, ""), (0, "a b"), (1, "king"), (1, "user king"), (4, "eternal"), (5, "-1"), (10, "x")]
        {
            assert_eq!(stored(|fields| fields[place] = Some(wrong.into())), None, "{wrong:?} as field {place}");
        }
        assert_eq!(stored(|fields| fields[8] = Some(i64::MAX.to_string())), None, "an end out of range");
    }
}
