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
            Self::Role(_) => "ROLE_MISSING",
            Self::UnknownMethod => "METHOD_UNKNOWN",
            Self::Rate { .. } => "RATE_LIMITED",
            Self::Streams(_) => "WATCH_LIMIT",
        }
    }
}

/// What is wrong with a token. Its bearer may know: it reveals nothing about the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`text` says what each means")]
pub enum TokenProblem {
    Scheme,
    Kind,
    SessionShape,
    TooLong,
    Shape,
    Header,
    Critical,
    Type,
    Algorithm,
    Key,
    Signature,
    Claims,
    Issuer,
    Audience,
    Expired,
    NotYetValid,
    Lifetime,
    Subject,
    Roles,
}

impl TokenProblem {
    /// Its name, for the metadata of the error.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheme => "SCHEME",
            Self::Kind => "KIND",
            Self::SessionShape => "SESSION_SHAPE",
            Self::TooLong => "TOO_LONG",
            Self::Shape => "SHAPE",
            Self::Header => "HEADER",
            Self::Critical => "CRITICAL",
            Self::Type => "TYPE",
            Self::Algorithm => "ALGORITHM",
            Self::Key => "KEY",
            Self::Signature => "SIGNATURE",
            Self::Claims => "CLAIMS",
            Self::Issuer => "ISSUER",
            Self::Audience => "AUDIENCE",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT_YET_VALID",
            Self::Lifetime => "LIFETIME",
            Self::Subject => "SUBJECT",
            Self::Roles => "ROLES",
        }
    }

    /// Its explanation, for the message of the error.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Scheme => "the authorization must be one `Bearer` token",
            Self::Kind => "this server does not accept this kind of token",
            Self::SessionShape => "a session token is `rs_` and 43 characters of base64url",
            Self::TooLong => "the token is too long",
            Self::Shape => "the token is not three parts of base64url",
            Self::Header => "the token's header can't be read",
            Self::Critical => "the token's header has an unknown critical extension",
            Self::Type => "the token is not an access token",
            Self::Algorithm => "the token is signed with an algorithm that is not allowed for its key",
            Self::Key => "the token's key is unknown",
            Self::Signature => "the token's signature is invalid",
            Self::Claims => "the token must have valid iss, aud, sub, exp and nbf claims",
            Self::Issuer => "the token is from another issuer",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Lifetime => "the token is valid for longer than allowed",
            Self::Subject => "the token does not name a user",
            Self::Roles => "the token's roles can't be read",
        }
    }
}
