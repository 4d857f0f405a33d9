//! The token of a session, and the id derived from it.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use super::denial::TokenProblem;

/// The prefix of every session token. No JWT has it, and a token that leaks is easy to recognize.
pub const PREFIX: &str = "rs_";
/// Random bytes in a token. 256 bits cannot be guessed, so their hash needs neither a salt nor a work factor.
const BYTES: usize = 32;

/// The id of a session: the SHA-256 of its token. Only the id is stored, and it is not a secret: finding the
/// token for it takes 2^256 guesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; BYTES]);

/// The token of a session. Its `Debug` omits the secret.
pub struct SessionToken(String);

impl SessionToken {
    /// A new token. None: the system has no random numbers.
    pub fn new() -> Option<Self> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The secret that its bearer sends.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The id of its session.
    pub fn id(&self) -> SessionId {
        SessionId::hash(&self.0)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken")
    }
}

impl SessionId {
    /// The id for a token, if the token is well-formed.
    pub fn of_token(token: &str) -> Result<Self, TokenProblem> {
        let bytes = token.strip_prefix(PREFIX).filter(|text| text.len() == 43);
        let bytes = bytes.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        bytes.map(|_| Self::hash(token)).ok_or(TokenProblem::SessionShape)
    }

    /// Reads an id in its canonical form.
    pub fn parse(text: &str) -> Option<Self> {
        // Rejects long input before decoding it.
        let bytes = (text.len() == 43).then(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).flatten();
        bytes?.try_into().ok().map(Self)
    }

    fn hash(token: &str) -> Self {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

#[cfg(test)]
mod tests;
