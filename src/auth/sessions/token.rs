//! The token of a session, and the id that stands for it.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use crate::auth::denial::TokenProblem;

/// What every token of a session begins with. No JWT does, and who finds one in the wrong place knows
/// what it is.
pub const PREFIX: &str = "rs_";
/// Bytes of chance in a token: nobody guesses 256 bits, and so their hash needs neither salt nor cost.
const BYTES: usize = 32;

/// A session's name: the SHA-256 of its token. It is all that is kept of the token, and what everybody
/// may know: the way back to the token is 2^256 guesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; BYTES]);

/// A session's token, which prints as nothing.
pub struct Token(String);

impl Token {
    /// A new one. None: the system has no random numbers.
    pub fn new() -> Option<Self> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// What its bearer sends.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The session's name.
    pub fn id(&self) -> SessionId {
        SessionId::hash(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl SessionId {
    /// The session that a bearer's token is of, if it is of the form.
    pub fn of_token(token: &str) -> Result<Self, TokenProblem> {
        let bytes = token.strip_prefix(PREFIX).filter(|text| text.len() == 43);
        let bytes = bytes.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        bytes.map(|_| Self::hash(token)).ok_or(TokenProblem::SessionShape)
    }

    /// The id that `text` spells, in its one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        // What is longer need not be read.
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
mod tests {
    use super::*;

    #[test]
    fn each_token_is_another_and_has_one_name() {
        let (one, other) = (Token::new().expect("chance"), Token::new().expect("chance"));
        assert!(one.expose() != other.expose() && one.id() != other.id());
        assert_eq!(SessionId::of_token(one.expose()), Ok(one.id()));
        assert_eq!(SessionId::parse(&one.id().to_string()), Some(one.id()));
        assert!(!format!("{one:?} {:?}", one.id()).contains(&one.expose()[3..]), "neither prints the token");
    }

    #[test]
    fn a_token_has_one_spelling() {
        let good = format!("rs_{}", "A".repeat(43));
        assert!(SessionId::of_token(&good).is_ok());
        for bad in [
            "",
            "rs_",
            &good[..45],
            &format!("{good}A"),
            &format!("{}=", &good[..45]),
            &format!("{}B", &good[..45]),
            &format!("{}+", &good[..45]),
            &format!("RS_{}", &good[3..]),
            &format!("rs-{}", &good[3..]),
            &format!("{} ", &good[..45]),
            &format!("rs_{}", "A".repeat(100_000)),
        ] {
            assert_eq!(SessionId::of_token(bad), Err(TokenProblem::SessionShape), "{bad:.60}");
        }
        for bad in ["", "x", &good, &"A".repeat(44), &format!("{}B", "A".repeat(42))] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }
}
