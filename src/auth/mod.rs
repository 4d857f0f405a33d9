//! Authentication and authorization.
//!
//! In reading order: a [`principal`] has roles; [`permissions`] is the table of the roles that each RPC needs;
//! an [`access`] is what a call is granted, a [`denial`] why it is refused. [`tokens`] authenticates JWTs: [`jws`]
//! is the signature, [`claims`] the payload in [`unique_json`], [`keys`] the trusted keys from a [`jwks`] that is read or
//! [`fetch`]ed. [`certificate`] names the bearer of a client certificate. [`sessions`] authenticates a
//! [`session_token`] by Redis. [`rate_limit`] limits calls. The [`guard`] checks every call with all of them.
//!
//! Everything is denied unless it is granted. No token, and no part of an unverified one, ever reaches a log, an
//! error or a span.

pub mod access;
pub mod certificate;
pub mod claims;
pub mod clock;
pub mod denial;
pub mod dev_keys;
pub mod fetch;
pub mod guard;
pub mod jwks;
pub mod jws;
pub mod keys;
pub mod permissions;
pub mod principal;
pub mod rate_limit;
pub mod session_token;
pub mod sessions;
pub mod tokens;
pub mod unique_json;
