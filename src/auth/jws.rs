//! Signed tokens in their compact form (RFC 7515): three parts, one signature, nothing negotiable.
//!
//! Written on `ring`, which TLS brings along, and for just this: what a general library would have to
//! be kept from doing (`none`, HMAC, keys that the token itself brings along) is not there.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{denial::TokenProblem, jwks::Key};
use crate::config::Algorithm;

/// Nothing longer is looked at.
pub const MAX_BYTES: usize = 8 * 1024;

/// A token, taken apart. Nothing in it is to be believed yet.
pub struct Jws<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    payload: Vec<u8>,
    /// The algorithm that it claims.
    pub algorithm: Algorithm,
    /// The key that it claims.
    pub kid: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
}

/// True, whatever the value is.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'t> Jws<'t> {
    /// Takes a token apart.
    pub fn parse(token: &'t str) -> Result<Self, TokenProblem> {
        if token.len() > MAX_BYTES {
            return Err(TokenProblem::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenProblem::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenProblem::Shape)?;
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenProblem::Shape);
        let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenProblem::Header)?;
        if header.crit || header.b64 {
            return Err(TokenProblem::Critical);
        }
        if header.typ.is_some_and(|typ| !is_access_token(&typ)) {
            return Err(TokenProblem::Type);
        }
        let algorithm = match header.alg.as_str() {
            "EdDSA" => Algorithm::EdDSA,
            "ES256" => Algorithm::ES256,
            "RS256" => Algorithm::RS256,
            _ => return Err(TokenProblem::Algorithm),
        };
        Ok(Self { signed, signature, payload, algorithm, kid: header.kid })
    }

    /// What is signed, if it is by this key.
    pub fn payload_signed_by(&self, key: &Key) -> Result<&[u8], TokenProblem> {
        if key.algorithm() != self.algorithm {
            return Err(TokenProblem::Algorithm);
        }
        let is_right = key.has_signed(self.signed.as_bytes(), &self.signature);
        is_right.then_some(self.payload.as_slice()).ok_or(TokenProblem::Signature)
    }
}

/// Other tokens of the same issuer, such as the ID tokens of a login or the tokens of a logout, are
/// no keys to this house. Many issuers say just `JWT`.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}
