//! The key that signs sessions in Redis, so that others who can write there can't make a session or change one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac::{self, HMAC_SHA256};

/// The key that signs sessions.
pub struct RecordKey(hmac::Key);

impl RecordKey {
    /// The key of this secret; none if it is empty.
    pub fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(hmac::Key::new(HMAC_SHA256, secret.as_bytes())))
    }

    /// The signature of these fields.
    pub fn sign(&self, fields: &[impl AsRef<str>]) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &encode(fields)))
    }

    /// Whether the signature is that of these fields.
    pub fn verify(&self, fields: &[impl AsRef<str>], signature: &str) -> bool {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature);
        signature.is_ok_and(|signature| hmac::verify(&self.0, &encode(fields), &signature).is_ok())
    }
}

/// Each field after its length, so that no text can move from one field to the next.
fn encode(fields: &[impl AsRef<str>]) -> Vec<u8> {
    let encode = |field: &str| [&(field.len() as u64).to_be_bytes()[..], field.as_bytes()].concat();
    fields.iter().flat_map(|field| encode(field.as_ref())).collect()
}
