//! Page tokens: where the next page begins, bound to the filters of the listing that they belong to.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::status;

/// No token of this server is longer.
const MAX_LENGTH: usize = 1024;

/// A token for the listing of `filters`, the request without its page fields.
pub fn encode<C: Serialize>(filters: &impl Message, cursor: &C) -> String {
    let token = serde_json::to_vec(&(digest(filters), cursor));
    token.map(|token| BASE64_URL_SAFE_NO_PAD.encode(token)).unwrap_or_default()
}

/// The cursor of a token. None: it is broken, or belongs to another listing. A client may have forged it, so a cursor
/// is made of types whose values are always valid.
pub fn decode<C: DeserializeOwned>(filters: &impl Message, token: &str) -> Option<C> {
    if token.len() > MAX_LENGTH {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (bound_to, cursor): (String, C) = serde_json::from_slice(&bytes).ok()?;
    (bound_to == digest(filters)).then_some(cursor)
}

/// Where the requested page begins; None: at the start. `cursor` reads the token.
pub fn after<M, C>(filters: &M, token: &str, cursor: impl Fn(&M, &str) -> Option<C>) -> Result<Option<C>, Status> {
    match token {
        "" => Ok(None),
        token => cursor(filters, token).map(Some).ok_or_else(status::bad_page_token),
    }
}

fn digest(filters: &impl Message) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(filters.encode_to_vec())[..12])
}

#[cfg(test)]
mod tests;
