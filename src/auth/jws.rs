//! Signed tokens in compact form (RFC 7515): three parts and one signature.
//!
//! Built on `ring`, which TLS needs anyway. The dangerous features of a general library (`none`, HMAC, keys inside
//! the token) do not exist here.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{denial::TokenProblem, jwks::Key};
use crate::config::Algorithm;

/// The longest accepted token.
pub const MAX_BYTES: usize = 8 * 1024;

/// A parsed token, not verified yet.
pub struct Jws<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    payload: Vec<u8>,
    /// The algorithm in its header.
    pub algorithm: Algorithm,
    /// The key id in its header.
    pub kid: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
}

/// True, whatever the value is.
fn is_present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'t> Jws<'t> {
    /// Parses a token.
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

    /// The payload, if this key verifies its signature.
    pub fn payload_signed_by(&self, key: &Key) -> Result<&[u8], TokenProblem> {
        if key.algorithm() != self.algorithm {
            return Err(TokenProblem::Algorithm);
        }
        let is_valid = key.verifies(self.signed.as_bytes(), &self.signature);
        is_valid.then_some(self.payload.as_slice()).ok_or(TokenProblem::Signature)
    }
}

/// Other tokens of the same issuer, such as ID tokens and logout tokens, grant no access. Many issuers just use
/// `JWT`.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}
