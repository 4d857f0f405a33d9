//! The claims of a token, and the principal that they name. Pure: the time is an argument.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::{
    denial::TokenProblem,
    principal::{Principal, Role, Roles},
};
use crate::{
    config::Auth,
    domain::{caller::Actor, ids::UserId},
};

/// The claims that a token must have.
#[derive(Clone, Debug)]
pub struct Expectations {
    issuer: String,
    audience: String,
    roles_claim: String,
    user_claim: String,
    /// Seconds.
    leeway: i64,
    /// Seconds.
    max_lifetime: i64,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaims {
    /// The principal that the token names.
    pub principal: Principal,
    /// When the token expires, in seconds since 1970, including the leeway.
    pub expires_at: i64,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: Number,
    nbf: Number,
    sub: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Expectations {
    /// The expectations of the settings.
    pub fn new(settings: &Auth) -> Self {
        let seconds = |span: std::time::Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            roles_claim: settings.roles_claim.clone(),
            user_claim: settings.user_claim.clone(),
            leeway: seconds(settings.leeway),
            max_lifetime: seconds(settings.max_token_lifetime),
        }
    }

    /// Checks the payload of a token with a valid signature. `now` is in seconds since 1970.
    pub fn check(&self, payload: &[u8], now: i64) -> Result<VerifiedClaims, TokenProblem> {
        let claims: Claims = serde_json::from_slice(payload).map_err(|_| TokenProblem::Claims)?;
        if claims.iss != self.issuer {
            return Err(TokenProblem::Issuer);
        }
        let is_for_us = match &claims.aud {
            Audience::One(one) => *one == self.audience,
            Audience::Many(many) => many.contains(&self.audience),
        };
        if !is_for_us {
            return Err(TokenProblem::Audience);
        }
        let (nbf, exp) = (seconds(&claims.nbf)?, seconds(&claims.exp)?);
        let expires_at = exp.saturating_add(self.leeway);
        if expires_at <= now {
            return Err(TokenProblem::Expired);
        }
        if nbf.saturating_sub(self.leeway) > now {
            return Err(TokenProblem::NotYetValid);
        }
        if exp <= nbf || exp.saturating_sub(nbf) > self.max_lifetime {
            return Err(TokenProblem::Lifetime);
        }
        let name = format!("token:{}", claims.sub);
        let name = Actor::parse(&name).filter(|_| !claims.sub.is_empty()).ok_or(TokenProblem::Subject)?;
        let roles = self.roles(&claims)?;
        let user_id = if roles.has(Role::User) { Some(self.user_id(&claims)?) } else { None };
        Ok(VerifiedClaims { principal: Principal { name, roles, user_id }, expires_at })
    }

    /// Ignores the roles of other services.
    fn roles(&self, claims: &Claims) -> Result<Roles, TokenProblem> {
        let mut roles = Roles::default();
        let mut add =
            |name: &str| Role::ALL.into_iter().filter(|role| role.name() == name).for_each(|it| roles.add(it));
        match find(&claims.others, &self.roles_claim) {
            None => {}
            Some(Value::String(words)) => words.split_whitespace().for_each(&mut add),
            Some(Value::Array(names)) => {
                for name in names {
                    add(name.as_str().ok_or(TokenProblem::Roles)?);
                }
            }
            Some(_) => return Err(TokenProblem::Roles),
        }
        Ok(roles)
    }

    fn user_id(&self, claims: &Claims) -> Result<UserId, TokenProblem> {
        let text = match self.user_claim.as_str() {
            "sub" => Some(claims.sub.as_str()),
            claim => find(&claims.others, claim).and_then(Value::as_str),
        };
        text.and_then(UserId::parse).ok_or(TokenProblem::Subject)
    }
}

/// A claim by its name, or by a path with dots.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(claims.get(first)?.as_object()?, rest)
    })
}

/// A NumericDate may have a fraction.
fn seconds(number: &Number) -> Result<i64, TokenProblem> {
    // Beyond 2^53 seconds precision does not matter; the cast saturates.
    let whole = number.as_f64().filter(|value| value.is_finite() && *value >= 0.0);
    whole.map(|value| value.floor() as i64).ok_or(TokenProblem::Claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn expectations(roles_claim: &str, user_claim: &str) -> Expectations {
        Expectations {
            issuer: "issuer".into(),
            audience: "reservd".into(),
            roles_claim: roles_claim.into(),
            user_claim: user_claim.into(),
            leeway: 30,
            max_lifetime: 3600,
        }
    }

    fn good() -> Value {
        json!({"iss": "issuer", "aud": "reservd", "sub": "ann", "nbf": NOW - 10, "exp": NOW + 600, "roles": ["user"]})
    }

    fn check(changes: &[(&str, Value)]) -> Result<VerifiedClaims, TokenProblem> {
        let mut claims = good();
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        expectations("roles", "sub").check(claims.to_string().as_bytes(), NOW)
    }

    #[test]
    fn times_are_compared_with_the_leeway_to_the_second() {
        assert_eq!(check(&[]).expect("good").expires_at, NOW + 630);
        assert!(check(&[("exp", json!(NOW - 29)), ("nbf", json!(NOW - 100))]).is_ok());
        assert_eq!(check(&[("exp", json!(NOW - 30)), ("nbf", json!(NOW - 100))]), Err(TokenProblem::Expired));
        assert!(check(&[("nbf", json!(NOW + 30))]).is_ok());
        assert_eq!(check(&[("nbf", json!(NOW + 31))]), Err(TokenProblem::NotYetValid));
        assert!(check(&[("nbf", json!(NOW)), ("exp", json!(NOW + 3600))]).is_ok());
        assert_eq!(check(&[("nbf", json!(NOW)), ("exp", json!(NOW + 3601))]), Err(TokenProblem::Lifetime));
        assert_eq!(check(&[("nbf", json!(NOW)), ("exp", json!(1e300))]), Err(TokenProblem::Lifetime));
        assert_eq!(check(&[("exp", json!(NOW)), ("nbf", json!(NOW + 20))]), Err(TokenProblem::Lifetime));
    }

    #[test]
    fn roles_may_be_words_or_a_list_or_nested() {
        let roles = |claim: &str, name: &str, value: Value| {
            let mut claims = good();
            claims[name] = value;
            let claimed = expectations(claim, "sub").check(claims.to_string().as_bytes(), NOW).expect("good");
            claimed.principal.roles.names().collect::<Vec<_>>()
        };
        assert_eq!(roles("roles", "roles", json!(["service", "baker", "admin"])), ["admin", "service"]);
        assert_eq!(roles("scope", "scope", json!("openid reader event.manager")), ["event.manager", "reader"]);
        assert_eq!(roles("realm.roles", "realm", json!({"roles": ["user"]})), ["user"]);
        assert_eq!(roles("a.b", "a.b", json!(["user"])), ["user"]);
        assert_eq!(roles("nowhere", "roles", json!(["admin"])), [""; 0]);
        for bad in [json!(7), json!([7]), json!({}), json!(true)] {
            assert_eq!(check(&[("roles", bad)]), Err(TokenProblem::Roles));
        }
    }

    #[test]
    fn the_configured_claim_has_the_user_id() {
        let claims = |customer: Value| {
            let mut claims = good();
            claims["customer"] = customer;
            expectations("roles", "customer").check(claims.to_string().as_bytes(), NOW)
        };
        assert_eq!(claims(json!("c-7")).expect("good").principal.user_id, UserId::parse("c-7"));
        for bad in [json!(""), json!("a b"), json!(7), json!("x".repeat(129))] {
            assert_eq!(claims(bad), Err(TokenProblem::Subject));
        }
    }
}
