//! Tokens to principals. A token is checked once; then it is known by its digest until it ends, so that
//! the next call costs a look into a table.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest::{SHA256, digest};

use super::{
    access::Credentials,
    claims::Expectations,
    clock,
    denial::{Denial, TokenProblem},
    jwks::KeySet,
    jws::Jws,
    keys::Keys,
};
use crate::config::{Algorithm, Auth};

/// Tokens that are known at once, in each of two generations.
const MAX_KNOWN: usize = 16 * 1024;

type Digest = [u8; 32];

/// Checks tokens.
pub struct Tokens {
    /// The keys that are trusted.
    pub keys: Keys,
    expected: Expectations,
    algorithms: Vec<Algorithm>,
    known: Mutex<Known>,
}

/// The token that came last on a connection and was good. Most callers show the same with each call: that it
/// is the same is all that has to be seen. Its connection keeps it anyway, among the headers that it knows.
#[derive(Debug, Default)]
pub struct LastToken(Mutex<Option<(Box<str>, Arc<Credentials>)>>);

impl LastToken {
    /// Whose the token is, if it is that one and still good.
    fn is(&self, token: &str) -> Option<Arc<Credentials>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, credentials) =
            last.as_ref().filter(|(known, credentials)| **known == *token && credentials.are_good())?;
        Some(Arc::clone(credentials))
    }

    fn set(&self, token: &str, credentials: &Arc<Credentials>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((token.into(), Arc::clone(credentials)));
    }
}

/// Tokens that were found good. When the younger generation is full it becomes the older, and that is
/// forgotten: bounded, and what is in use stays.
#[derive(Default)]
struct Known {
    young: HashMap<Digest, Arc<Credentials>>,
    old: HashMap<Digest, Arc<Credentials>>,
}

impl Known {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Credentials>> {
        if let Some(found) = self.young.get(digest) {
            return Some(Arc::clone(found));
        }
        let found = self.old.remove(digest)?;
        self.put(*digest, Arc::clone(&found));
        Some(found)
    }

    fn put(&mut self, digest: Digest, credentials: Arc<Credentials>) {
        if self.young.len() >= MAX_KNOWN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, credentials);
    }
}

impl Tokens {
    /// Tokens as the settings describe them. There are no keys yet.
    pub fn new(settings: &Auth) -> Self {
        Self {
            keys: Keys::new(settings),
            expected: Expectations::new(settings),
            algorithms: settings.algorithms.clone(),
            known: Mutex::default(),
        }
    }

    /// Whose token it is, on a connection with this last one. None: the keys have to be asked for anew to tell
    /// ([`Tokens::check_anew`]).
    pub fn check(&self, token: &str, last: &LastToken) -> Result<Option<Arc<Credentials>>, Denial> {
        // Before those that are known: keys that are too old vouch for nothing.
        let keys = self.keys.now()?;
        if let Some(credentials) = last.is(token) {
            return Ok(Some(credentials));
        }
        let checked = self.check_any(&keys, token)?;
        if let Some(credentials) = &checked {
            last.set(token, credentials);
        }
        Ok(checked)
    }

    fn check_any(&self, keys: &KeySet, token: &str) -> Result<Option<Arc<Credentials>>, Denial> {
        let digest = digest_of(token);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest);
        match known {
            Some(credentials) if credentials.are_good() => Ok(Some(credentials)),
            _ => match self.check_with(keys, token, digest) {
                Err(Denial::Token(TokenProblem::Key)) => Ok(None),
                checked => checked.map(Some),
            },
        }
    }

    /// As [`Tokens::check`], after the keys were asked for anew, if they may be now.
    pub async fn check_anew(&self, token: &str) -> Result<Arc<Credentials>, Denial> {
        let keys = self.keys.renew_for_unknown(&self.keys.now()?).await?;
        self.check_with(&keys, token, digest_of(token))
    }

    fn check_with(&self, keys: &KeySet, token: &str, digest: Digest) -> Result<Arc<Credentials>, Denial> {
        let credentials = Arc::new(self.credentials(keys, token).map_err(Denial::Token)?);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(digest, Arc::clone(&credentials));
        Ok(credentials)
    }

    fn credentials(&self, keys: &KeySet, token: &str) -> Result<Credentials, TokenProblem> {
        let jws = Jws::parse(token)?;
        if !self.algorithms.contains(&jws.algorithm) {
            return Err(TokenProblem::Algorithm);
        }
        let key = keys.find(jws.kid.as_deref(), jws.algorithm)?;
        let claimed = self.expected.check(jws.payload_signed_by(key)?, clock::now())?;
        Ok(Credentials {
            expires_at: Some(claimed.expires_at),
            withdrawn: key.withdrawn.clone(),
            ..Credentials::of(claimed.principal)
        })
    }
}

/// Stands for the token, which itself is not kept.
fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::principal::{Principal, Roles},
        domain::caller::Actor,
    };

    fn credentials() -> Arc<Credentials> {
        let name = Actor::parse("token:ann").expect("valid");
        Arc::new(Credentials::of(Principal { name, roles: Roles::default(), user_id: None }))
    }

    #[test]
    fn the_last_token_is_that_one_only_and_only_while_it_is_good() {
        let (last, one) = (LastToken::default(), credentials());
        assert!(last.is("one").is_none());
        last.set("one", &one);
        assert!(last.is("one").is_some() && last.is("on").is_none() && last.is("one.").is_none());
        one.withdrawn.cancel();
        assert!(last.is("one").is_none());
    }

    #[test]
    fn tokens_in_use_stay_known_and_the_table_stays_small() {
        let (mut known, one) = (Known::default(), digest_of("the one in use"));
        known.put(one, credentials());
        for number in 0..5 * MAX_KNOWN {
            known.put(digest_of(&number.to_string()), credentials());
            if number % 1000 == 0 {
                assert!(known.get(&one).is_some(), "{number}");
            }
        }
        assert!(known.young.len() + known.old.len() <= 2 * MAX_KNOWN);
    }
}
