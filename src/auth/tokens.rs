//! Authenticates JWTs. A token is verified once and then cached by its digest until it expires, so that the next
//! call costs a map lookup.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
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

/// Cached tokens in each of two generations.
const GENERATION_SIZE: usize = 16 * 1024;

type Digest = [u8; 32];

/// Verifies tokens.
pub struct Tokens {
    /// The trusted keys.
    pub keys: Keys,
    expected: Expectations,
    algorithms: Vec<Algorithm>,
    cache: Mutex<TokenCache>,
}

/// The last valid token on a connection. Most callers send the same token with each call, which then costs one
/// comparison. HTTP/2 header compression keeps the token for the connection anyway.
#[derive(Debug, Default)]
pub struct LastToken(Mutex<Option<(Box<str>, Arc<Credentials>)>>);

impl LastToken {
    /// The credentials of the token, if it is the last one and still good.
    fn get(&self, token: &str) -> Option<Arc<Credentials>> {
        let last = self.0.lock();
        let (_, credentials) = last.as_ref().filter(|(last, it)| **last == *token && it.are_good())?;
        Some(Arc::clone(credentials))
    }

    fn set(&self, token: &str, credentials: &Arc<Credentials>) {
        *self.0.lock() = Some((token.into(), Arc::clone(credentials)));
    }
}

/// Valid tokens. When the young generation is full, it replaces the old one: the cache is bounded, and tokens in
/// use stay.
#[derive(Default)]
struct TokenCache {
    young: HashMap<Digest, Arc<Credentials>>,
    old: HashMap<Digest, Arc<Credentials>>,
}

impl TokenCache {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Credentials>> {
        if let Some(found) = self.young.get(digest) {
            return Some(Arc::clone(found));
        }
        let found = self.old.remove(digest)?;
        self.put(*digest, Arc::clone(&found));
        Some(found)
    }

    fn put(&mut self, digest: Digest, credentials: Arc<Credentials>) {
        if self.young.len() >= GENERATION_SIZE {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, credentials);
    }
}

impl Tokens {
    /// A verifier without keys yet.
    pub fn new(settings: &Auth) -> Self {
        Self {
            keys: Keys::new(settings),
            expected: Expectations::new(settings),
            algorithms: settings.algorithms.clone(),
            cache: Mutex::default(),
        }
    }

    /// The credentials of a token, on a connection with this last token. None: its key is unknown, and
    /// [`Tokens::check_with_fresh_keys`] refreshes the keys first.
    pub fn check(&self, token: &str, last: &LastToken) -> Result<Option<Arc<Credentials>>, Denial> {
        // Before the caches: keys that are too old verify nothing.
        let keys = self.keys.now()?;
        if let Some(credentials) = last.get(token) {
            return Ok(Some(credentials));
        }
        let checked = self.check_cached(&keys, token)?;
        if let Some(credentials) = &checked {
            last.set(token, credentials);
        }
        Ok(checked)
    }

    fn check_cached(&self, keys: &KeySet, token: &str) -> Result<Option<Arc<Credentials>>, Denial> {
        let digest = digest_of(token);
        let cached = self.cache.lock().get(&digest);
        match cached {
            Some(credentials) if credentials.are_good() => Ok(Some(credentials)),
            _ => match self.verify(keys, token, digest) {
                Err(Denial::Token(TokenProblem::Key)) => Ok(None),
                checked => checked.map(Some),
            },
        }
    }

    /// As [`Tokens::check`], after a refresh of the keys, if one is due.
    pub async fn check_with_fresh_keys(&self, token: &str) -> Result<Arc<Credentials>, Denial> {
        let keys = self.keys.refresh_for_unknown(&self.keys.now()?).await?;
        self.verify(&keys, token, digest_of(token))
    }

    fn verify(&self, keys: &KeySet, token: &str, digest: Digest) -> Result<Arc<Credentials>, Denial> {
        let credentials = Arc::new(self.credentials(keys, token).map_err(Denial::Token)?);
        self.cache.lock().put(digest, Arc::clone(&credentials));
        Ok(credentials)
    }

    fn credentials(&self, keys: &KeySet, token: &str) -> Result<Credentials, TokenProblem> {
        let jws = Jws::parse(token)?;
        if !self.algorithms.contains(&jws.algorithm) {
            return Err(TokenProblem::Algorithm);
        }
        let key = keys.find(jws.kid.as_deref(), jws.algorithm)?;
        let claims = self.expected.check(jws.payload_signed_by(key)?, clock::now())?;
        Ok(Credentials {
            expires_at: Some(claims.expires_at),
            revoked: key.revoked.clone(),
            ..Credentials::of(claims.principal)
        })
    }
}

/// Identifies the token in the cache, which does not keep the token itself.
fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests;
