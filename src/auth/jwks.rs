//! JSON Web Key Sets (RFC 7517): public keys, each for one signature algorithm.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::denial::TokenProblem;
use crate::config::Algorithm;

/// More than any issuer has in use.
const MAX_KEYS: usize = 100;

/// A public key.
#[derive(Clone, Debug)]
pub struct Key {
    kid: Option<String>,
    public: Public,
    /// Cancelled when the key is removed from the set.
    pub revoked: CancellationToken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Ed25519(Vec<u8>),
    /// The uncompressed point.
    P256(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// The trusted keys.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

/// Why a text is not a key set.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is malformed.
    #[error("it is not a JSON Web Key Set")]
    Shape,
    /// No key can verify a signature.
    #[error(
        "it has no usable key: at least one must be OKP (Ed25519), EC (P-256) or RSA (2048 bits or more), for signatures"
    )]
    Empty,
    /// It has too many keys.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<Value>,
}

impl KeySet {
    /// Reads a set. Skips keys for other algorithms or purposes, and a key that includes its private half, since
    /// everyone who reads the set could sign with it.
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
        let raw: RawSet = serde_json::from_slice(json).map_err(|_| JwksError::Shape)?;
        if raw.keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let mut keys = Vec::new();
        for (place, key) in raw.keys.into_iter().enumerate() {
            match Key::parse(key) {
                Ok(key) => keys.push(key),
                Err(why) => tracing::warn!(place, why, "skipped a key of the key set"),
            }
        }
        if keys.is_empty() { Err(JwksError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key for a token: the one with its kid, or without a kid the only key for its algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenProblem> {
        let mut of_algorithm = self.0.iter().filter(|key| key.algorithm() == algorithm);
        let Some(kid) = kid else {
            return match (of_algorithm.next(), of_algorithm.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(TokenProblem::Key),
            };
        };
        let has_kid = |key: &&Key| key.kid.as_deref() == Some(kid);
        of_algorithm.find(has_kid).ok_or_else(|| match self.0.iter().find(has_kid) {
            Some(_) => TokenProblem::Algorithm,
            None => TokenProblem::Key,
        })
    }

    /// Succeeds `old`: revokes the keys of `old` that are missing in this set.
    #[must_use]
    pub fn after(mut self, old: &Self) -> Self {
        for old in &old.0 {
            match self.0.iter_mut().find(|key| key.kid == old.kid && key.public == old.public) {
                Some(same) => same.revoked = old.revoked.clone(),
                None => old.revoked.cancel(),
            }
        }
        self
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    fn parse(key: Value) -> Result<Self, &'static str> {
        let raw: RawKey = serde_json::from_value(key).map_err(|_| "it can't be read")?;
        if raw.d.is_some() {
            return Err("it includes the private half, with which everyone who reads the key set can sign");
        }
        if raw.usage.is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures");
        }
        if raw.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("it is not for verifying signatures");
        }
        let bytes = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text.unwrap_or_default()).unwrap_or_default();
        let public = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Public::Ed25519(exactly(bytes(raw.x), 32)?),
            ("EC", Some("P-256")) => {
                let (x, y) = (exactly(bytes(raw.x), 32)?, exactly(bytes(raw.y), 32)?);
                Public::P256([vec![4], x, y].concat())
            }
            ("RSA", _) => {
                let (n, e) = (bytes(raw.n), bytes(raw.e));
                // ring refuses shorter keys too, but only at the first signature.
                if n.len() < 256 || e.is_empty() {
                    Err("it is shorter than 2048 bits")
                } else {
                    Ok(Public::Rsa { n, e })
                }?
            }
            ("oct", _) => return Err("it is symmetric: every verifier could sign"),
            _ => return Err("its type is unknown"),
        };
        let key = Self { kid: raw.kid, public, revoked: CancellationToken::new() };
        let is_for_this =
            |alg: String| alg == key.algorithm().name() || (alg == "Ed25519" && key.algorithm() == Algorithm::EdDSA);
        if raw.alg.is_some_and(|alg| !is_for_this(alg)) {
            return Err("it is for another algorithm");
        }
        Ok(key)
    }

    /// The only algorithm that it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::Ed25519(_) => Algorithm::EdDSA,
            Public::P256(_) => Algorithm::ES256,
            Public::Rsa { .. } => Algorithm::RS256,
        }
    }

    /// Whether the signature is valid.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Public::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature),
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        }
        .is_ok()
    }
}

fn exactly(bytes: Vec<u8>, length: usize) -> Result<Vec<u8>, &'static str> {
    if bytes.len() == length { Ok(bytes) } else { Err("its coordinates do not have the length of the curve") }
}

#[cfg(test)]
mod tests;
