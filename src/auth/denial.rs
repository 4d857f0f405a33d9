//! Why a call is denied.

use std::time::Duration;

/// Why a call is denied before it has any effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has neither a token nor a certificate.
    CredentialsMissing,
    /// Its token is invalid.
    Token(TokenProblem),
    /// There are no keys to verify its token with.
    KeysUnavailable,
    /// The session of its token has ended, or never existed.
    SessionEnded,
    /// Redis, which stores the sessions, has no answer.
    SessionsUnavailable,
    /// Its certificate has no usable name.
    Certificate,
    /// Its certificate has expired, or is no longer verified.
    CredentialsEnded,
    /// The principal has none of these roles, one of which the RPC needs.
    Role(Vec<&'static str>),
    /// The table of permissions has no such RPC.
    UnknownMethod,
    /// Too many calls.
    Rate {
        /// Whose calls: "principal" or "address".
        of: &'static str,
        /// The time until the next call is accepted.
        wait: Duration,
    },
    /// More than this number of concurrent streams.
    Streams(u32),
}

impl Denial {
    /// The reason, as clients see it in `ErrorInfo`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CredentialsMissing => "CREDENTIALS_MISSING",
            Self::Token(TokenProblem::Expired) => "TOKEN_EXPIRED",
            Self::Token(_) => "TOKEN_INVALID",
            Self::KeysUnavailable => "KEYS_UNAVAILABLE",
            Self::SessionEnded => "SESSION_ENDED",
            Self::SessionsUnavailable => "SESSIONS_UNAVAILABLE",
            Self::Certificate => "CERTIFICATE_INVALID",
            Self::CredentialsEnded => "CREDENTIALS_ENDED",
            Self::Role(_) => "ROLE_MISSING",
            Self::UnknownMethod => "METHOD_UNKNOWN",
            Self::Rate { .. } => "RATE_LIMITED",
            Self::Streams(_) => "WATCH_LIMIT",
        }
    }
}

macro_rules! token_problems {
    ($($problem:ident = $name:literal: $text:literal;)+) => {
        /// What is wrong with a token. Its bearer may know: it reveals nothing about the keys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TokenProblem {
            $(#[doc = $text] $problem,)+
        }

        impl TokenProblem {
            /// Its name, for the metadata of the error.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$problem => $name,)+
                }
            }

            /// Its explanation, for the message of the error.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$problem => $text,)+
                }
            }
        }
    };
}

token_problems! {
    Scheme = "SCHEME": "the authorization must be one `Bearer` token";
    Kind = "KIND": "this server does not accept this kind of token";
    SessionShape = "SESSION_SHAPE": "a session token is `rs_` and 43 characters of base64url";
    TooLong = "TOO_LONG": "the token is too long";
    Shape = "SHAPE": "the token is not three parts of base64url";
    Header = "HEADER": "the token's header can't be read";
    Critical = "CRITICAL": "the token's header has an unknown critical extension";
    Type = "TYPE": "the token is not an access token";
    Algorithm = "ALGORITHM": "the token is signed with an algorithm that is not allowed for its key";
    Key = "KEY": "the token's key is unknown";
    Signature = "SIGNATURE": "the token's signature is invalid";
    Claims = "CLAIMS": "the token must have valid iss, aud, sub, exp and nbf claims";
    Issuer = "ISSUER": "the token is from another issuer";
    Audience = "AUDIENCE": "the token is for another audience";
    Expired = "EXPIRED": "the token has expired";
    NotYetValid = "NOT_YET_VALID": "the token is not valid yet";
    Lifetime = "LIFETIME": "the token is valid for longer than allowed";
    Subject = "SUBJECT": "the token does not name a user";
    Roles = "ROLES": "the token's roles can't be read";
}
