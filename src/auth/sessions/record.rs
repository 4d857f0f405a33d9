//! What is kept of a session.

use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Value};

use super::token::SessionId;
use crate::{
    auth::principal::{Principal, Role, Roles},
    config::SessionKind,
    domain::{caller::Actor, ids::UserId, time::Timestamp},
};

/// A session that is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whose it is to be.
    pub user_id: UserId,
    /// What its bearer may do.
    pub roles: Roles,
    /// How its time runs.
    pub kind: SessionKind,
    /// How long it is good without being used; a fixed one, at all.
    pub lifetime: Duration,
    /// Who asks for it.
    pub created_by: String,
    /// What that says of it.
    pub description: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// What its bearer may do.
    pub roles: Roles,
    /// How its time runs.
    pub kind: SessionKind,
    /// Who created it.
    pub created_by: String,
    /// What that says of it.
    pub description: String,
    /// When that was, by Redis's clock, as are all these times.
    pub created: Timestamp,
    /// When it was last used, give or take the pause between two notes of that.
    pub used: Timestamp,
    /// When it lapses, unless it slides and is used.
    pub expires: Timestamp,
    /// When it ends whatever happens.
    pub ends: Timestamp,
    /// How long it is good without being used.
    pub lifetime: Duration,
    /// How long it had left when Redis was asked.
    pub left: Duration,
    /// How long it had not been used then.
    pub idle: Duration,
}

/// What the scripts return of a session: fields of text, of which one that is missing is none.
pub struct Kept([Option<String>; 12]);

impl FromRedisValue for Kept {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let fields: Vec<Option<String>> = FromRedisValue::from_redis_value(value)?;
        fields.try_into().map(Self).map_err(|_| "not the fields of a session".into())
    }
}

impl Kept {
    /// The session. None: what is kept is not what was ever written, and opens nothing.
    pub fn session(self, id: SessionId) -> Option<Session> {
        let [user_id, roles, created_by, description, kind, lifetime, created, used, ends, expires, left, now] = self.0;
        let millis = |text: Option<String>| text?.parse::<i64>().ok();
        let span = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
        let moment = |millis: i64| millis.checked_mul(1000).and_then(Timestamp::from_micros);
        let (used, left, now) = (millis(used)?, millis(left)?, millis(now)?);
        Some(Session {
            id,
            user_id: UserId::parse(&user_id?)?,
            roles: read_roles(&roles?)?,
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
    /// Who its bearer is.
    pub fn principal(&self) -> Option<Principal> {
        let name = Actor::parse(&format!("session:{}", self.user_id))?;
        let user_id = self.roles.has(Role::User).then(|| self.user_id.clone());
        Some(Principal { name, roles: self.roles, user_id })
    }
}

/// How its kind is written.
pub const fn written_kind(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Sliding => "sliding",
        SessionKind::Fixed => "fixed",
    }
}

/// How roles are written: the same ones always in the same way.
pub fn written_roles(roles: Roles) -> String {
    roles.names().collect::<Vec<_>>().join(" ")
}

/// Roles that are not known are a reason to let nobody in, not to pass them over: nobody else writes
/// them.
fn read_roles(text: &str) -> Option<Roles> {
    let mut roles = Roles::default();
    for name in text.split_whitespace() {
        roles.add(Role::ALL.into_iter().find(|role| role.name() == name)?);
    }
    Some(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(change: impl FnOnce(&mut [Option<String>; 12])) -> Option<Session> {
        let fields =
            ["ann", "user", "token:shop", "", "sliding", "60000", "1000", "2000", "90000", "53500", "50000", "3500"];
        let mut fields = fields.map(|text| Some(text.to_owned()));
        change(&mut fields);
        Kept(fields).session(SessionId::parse(&"A".repeat(43)).expect("an id"))
    }

    #[test]
    fn a_session_is_what_is_kept_of_it() {
        let session = kept(|_| {}).expect("good");
        assert_eq!(session.principal().expect("somebody").name.as_str(), "session:ann");
        assert_eq!((session.idle, session.left), (Duration::from_millis(1500), Duration::from_secs(50)));
        assert_eq!(session.expires.micros(), 53_500_000);
    }

    #[test]
    fn who_has_another_role_than_user_is_no_user() {
        let manager = kept(|fields| fields[1] = Some("event.manager".into())).expect("good");
        assert_eq!(manager.principal().expect("somebody").user_id, None);
    }

    #[test]
    fn what_nobody_wrote_opens_nothing() {
        for place in 0..12 {
            assert_eq!(kept(|fields| fields[place] = None), None, "without field {place}");
        }
        for (place, wrong) in [(0, ""), (0, "a b"), (1, "king"), (1, "user king"), (4, "eternal"), (5, "-1"), (10, "x")]
        {
            assert_eq!(kept(|fields| fields[place] = Some(wrong.into())), None, "{wrong:?} as field {place}");
        }
        assert_eq!(kept(|fields| fields[8] = Some(i64::MAX.to_string())), None, "an end beyond all time");
    }
}
