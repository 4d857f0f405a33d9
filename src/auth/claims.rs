//! The claims of a token, and the principal that they name. Pure: the time is an argument.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::{
    denial::TokenProblem,
    principal::{Principal, Role, Roles},
    unique_json::UniqueJson,
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
        // A claim that is there twice means one thing to reservd, and another to what the token passed on its way.
        let UniqueJson(payload) = serde_json::from_slice(payload).map_err(|_| TokenProblem::Claims)?;
        let claims = Claims::deserialize(payload).map_err(|_| TokenProblem::Claims)?;
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
mod tests;
