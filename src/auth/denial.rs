//! Why a call is not let in.

use std::time::Duration;

/// Why a call is not let in. Nothing of it was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has neither a token nor a certificate.
    CredentialsMissing,
    /// Its token is not good.
    Token(TokenProblem),
    /// No keys are known that could tell whether its token is good.
    KeysUnavailable,
    /// There is no session of its token, or no longer.
    SessionEnded,
    /// Redis, which knows the sessions, can't be asked.
    SessionsUnavailable,
    /// Its certificate does not say who it is.
    Certificate,
    /// None of its principal's roles opens the RPC: one of these would.
    Role(Vec<&'static str>),
    /// No such RPC is open to anyone.
    UnknownMethod,
    /// Too many calls; room for one more comes after this time.
    Rate {
        /// Whose: "principal" or "address".
        of: &'static str,
        /// How long to wait.
        wait: Duration,
    },
    /// Too many streams at once: more than this.
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

/// What is wrong with a token. Said to its bearer: it is about the token alone, and tells nobody
/// anything about the keys.
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
    /// Its name, in metadata.
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

    /// What it means.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Scheme => "the authorization must be one `Bearer` token",
            Self::Kind => "tokens of this kind are not taken here",
            Self::SessionShape => "the token of a session is `rs_` and 43 characters of base64url",
            Self::TooLong => "the token is longer than any that is taken",
            Self::Shape => "the token is not three parts of base64url",
            Self::Header => "the token's header can't be read",
            Self::Critical => "the token's header has a critical extension that is not known here",
            Self::Type => "the token is of a type that is not an access token",
            Self::Algorithm => "the token is signed with an algorithm that is not allowed for its key",
            Self::Key => "the token's key is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Claims => "the token must have iss, aud, sub, exp and nbf, each of its type",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token's time is over",
            Self::NotYetValid => "the token's time has not begun",
            Self::Lifetime => "the token is good for longer than is allowed",
            Self::Subject => "the token does not name a user",
            Self::Roles => "the token's roles can't be read",
        }
    }
}
