//! Who calls, and what they may do.
//!
//! In reading order: a [`principal`] has roles; [`permissions`] is the one table of what each RPC
//! needs; an [`access`] is what a call was granted, and a [`denial`] why it was not. [`tokens`] makes
//! principals of JWTs: [`jws`] is the signature, [`claims`] what is signed, [`keys`] the keys that are
//! trusted, from a [`jwks`] that is read or [`fetch`]ed. [`certificate`] makes principals of client
//! certificates, and [`sessions`] of tokens that Redis knows. [`rate`] bounds how often they call. The [`guard`] asks all of them, for every call.
//!
//! Everything is denied that is not granted; and no token, nor any word of one that is not verified,
//! ever reaches a log, an error or a span.

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
pub mod rate;
pub mod sessions;
pub mod tokens;
