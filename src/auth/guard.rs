//! Checks every call: authentication, authorization and rate limits.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    access::{Access, Credentials},
    certificate::{self, Validity},
    denial::{Denial, TokenProblem},
    permissions::{self, Need},
    principal::{Principal, Roles},
    rate_limit::{LogLimit, RateLimit},
    session_token,
    sessions::{Sessions, session_cache::LookupResult},
    tokens::{LastToken, Tokens},
};
use crate::{config::Config, domain::caller::Actor, telemetry::metrics::Metrics};

/// Denials logged per second, and in a burst. Further ones are only counted.
const LOGGED_PER_SECOND: u32 = 5;
const LOGGED_AT_ONCE: u32 = 50;

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The result for its certificate; none without one.
    pub certificate: Option<Result<Arc<Credentials>, Denial>>,
    /// The last token that it sent.
    pub last_token: Arc<LastToken>,
}

/// The parts of a call that the guard checks.
#[derive(Clone, Copy)]
pub struct Call<'c> {
    /// The RPC's path.
    pub method: &'c str,
    /// The call's metadata.
    pub headers: &'c HeaderMap,
    /// The client of its connection.
    pub peer: &'c Peer,
}

/// The decision about a call.
pub enum Verdict {
    /// It may proceed.
    Granted(Access),
    /// It may not.
    Denied(Denial),
    /// Its key or session must be looked up first, by [`Guard::decide_with_lookup`].
    LookupNeeded,
}

/// Checks every call.
pub struct Guard {
    tokens: Option<Tokens>,
    sessions: Option<Arc<Sessions>>,
    certificate_roles: HashMap<String, Roles>,
    has_authentication: bool,
    needs: HashMap<&'static str, Need>,
    principal_limit: Option<RateLimit>,
    address_limit: Option<RateLimit>,
    /// For calls that need no authentication, so that they don't depend on other calls of their address.
    public_limit: Option<RateLimit>,
    unknown_session_limit: Option<RateLimit>,
    max_streams: u32,
    streams: Arc<Mutex<HashMap<u64, u32>>>,
    hasher: RandomState,
    log_limit: LogLimit,
    metrics: Arc<Metrics>,
}

/// The token of a call, and its verifier.
enum Presented<'c> {
    Jwt(&'c Tokens, &'c str),
    Session(&'c Arc<Sessions>, &'c str),
}

/// Counts an open stream until this is dropped.
pub struct StreamPermit {
    of: u64,
    streams: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        if let Some(count) = streams.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.of);
            }
        }
    }
}

impl Guard {
    /// A guard without keys for tokens yet.
    pub fn new(config: &Config, sessions: Option<Arc<Sessions>>, metrics: Arc<Metrics>) -> Self {
        let limits = &config.limits;
        let roles = config.auth.certificate_roles.iter().map(|(name, roles)| (name.clone(), Roles::of(roles)));
        Self {
            tokens: (!config.auth.jwks.is_empty()).then(|| Tokens::new(&config.auth)),
            sessions,
            certificate_roles: roles.collect(),
            has_authentication: config.has_authentication(),
            needs: permissions::by_path(),
            principal_limit: RateLimit::new(limits.principal_rate, limits.principal_burst),
            address_limit: RateLimit::new(limits.address_rate, limits.address_burst),
            public_limit: RateLimit::new(limits.address_rate, limits.address_burst),
            unknown_session_limit: RateLimit::new(limits.unknown_session_rate, limits.unknown_session_burst),
            max_streams: limits.watches_per_principal,
            streams: Arc::default(),
            hasher: RandomState::new(),
            log_limit: LogLimit::new(LOGGED_PER_SECOND, LOGGED_AT_ONCE),
            metrics,
        }
    }

    /// The verifier of tokens, if tokens are accepted.
    pub const fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// The sessions, if there are any.
    pub const fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.sessions.as_ref()
    }

    /// The credentials of a client certificate.
    pub fn check_certificate(
        &self,
        certificate: &CertificateDer<'_>,
        validity: &Validity,
    ) -> Result<Arc<Credentials>, Denial> {
        let name = certificate::name(certificate).ok_or(Denial::Certificate)?;
        let roles = self.certificate_roles.get(&name).copied().unwrap_or_default();
        let name = Actor::parse(&format!("certificate:{name}")).ok_or(Denial::Certificate)?;
        Ok(Arc::new(Credentials {
            expires_at: Some(validity.expires_at),
            revoked: validity.withdrawn.clone(),
            ..Credentials::of(Principal { name, roles, user_id: None })
        }))
    }

    /// Decides about a call.
    pub fn decide(&self, call: Call<'_>) -> Verdict {
        let need = self.needs.get(call.method).copied();
        let is_public = need == Some(Need::Nothing);
        let limit = if is_public { &self.public_limit } else { &self.address_limit };
        if let Some(limit) = limit
            && let Err(wait) = limit.take(&network_of(call.peer.address), Instant::now())
        {
            return self.denied(call, None, Denial::Rate { of: "address", wait });
        }
        if is_public || !self.has_authentication {
            return Verdict::Granted(Access::unauthenticated());
        }
        match self.authenticate(call) {
            Ok(Some(credentials)) => self.authorize(call, need, credentials),
            Ok(None) => Verdict::LookupNeeded,
            Err(denial) => self.denied(call, None, denial),
        }
    }

    /// Decides about a call after looking its key or its session up.
    pub async fn decide_with_lookup(&self, call: Call<'_>) -> Verdict {
        let checked = match self.presented(call) {
            Ok(Some(Presented::Jwt(tokens, token))) => tokens.check_with_fresh_keys(token).await,
            Ok(Some(Presented::Session(sessions, token))) => self.look_up(sessions, token, call.peer.address).await,
            Ok(None) => Err(Denial::CredentialsMissing),
            Err(denial) => Err(denial),
        };
        match checked {
            Ok(credentials) => self.authorize(call, self.needs.get(call.method).copied(), credentials),
            Err(denial) => self.denied(call, None, denial),
        }
    }

    /// Looks a session up in Redis, unless its address has sent too many unknown tokens.
    async fn look_up(&self, sessions: &Arc<Sessions>, token: &str, address: IpAddr) -> LookupResult {
        let (limit, network) = (self.unknown_session_limit.as_ref(), network_of(address));
        if let Some(Err(wait)) = limit.map(|limit| limit.peek(&network, Instant::now())) {
            return Err(Denial::Rate { of: "address", wait });
        }
        let found = sessions.look_up(token).await;
        if let (Some(limit), Err(Denial::SessionEnded)) = (limit, &found) {
            // Concurrent lookups may have emptied the bucket since.
            let _ = limit.take(&network, Instant::now());
        }
        found
    }

    /// The credentials of the token, which must be valid if there is one, or else of the certificate.
    fn authenticate(&self, call: Call<'_>) -> Result<Option<Arc<Credentials>>, Denial> {
        match self.presented(call)? {
            Some(Presented::Jwt(tokens, token)) => tokens.check(token, &call.peer.last_token),
            Some(Presented::Session(sessions, token)) => sessions.check(token),
            None => match &call.peer.certificate {
                None => Err(Denial::CredentialsMissing),
                Some(Ok(credentials)) if !credentials.are_good() => Err(Denial::CredentialsEnded),
                Some(checked) => checked.clone().map(Some),
            },
        }
    }

    /// The token of a call and its verifier; none without a token, or where tokens are not accepted.
    fn presented<'c>(&'c self, call: Call<'c>) -> Result<Option<Presented<'c>>, Denial> {
        if self.tokens.is_none() && self.sessions.is_none() {
            return Ok(None);
        }
        let Some(token) = bearer(call.headers)? else { return Ok(None) };
        let presented = if token.starts_with(session_token::PREFIX) {
            self.sessions.as_ref().map(|sessions| Presented::Session(sessions, token))
        } else {
            self.tokens.as_ref().map(|tokens| Presented::Jwt(tokens, token))
        };
        presented.map(Some).ok_or(Denial::Token(TokenProblem::Kind))
    }

    fn authorize(&self, call: Call<'_>, need: Option<Need>, credentials: Arc<Credentials>) -> Verdict {
        let principal = &credentials.principal;
        if let Some(limit) = &self.principal_limit
            && let Err(wait) = limit.take(&principal.name, Instant::now())
        {
            return self.denied(call, Some(principal), Denial::Rate { of: "principal", wait });
        }
        let Some(need) = need else { return self.denied(call, Some(principal), Denial::UnknownMethod) };
        match need.grant(principal) {
            Some(scope) => Verdict::Granted(Access { credentials: Some(credentials), scope }),
            None => self.denied(call, Some(principal), Denial::Role(need.role_names())),
        }
    }

    /// Counts another stream of the caller, or denies it.
    pub fn open_stream(&self, access: &Access, call: Call<'_>) -> Result<Option<StreamPermit>, Denial> {
        if self.max_streams == 0 {
            return Ok(None);
        }
        let of = match access.principal() {
            Some(principal) => self.hasher.hash_one(&principal.name),
            None => self.hasher.hash_one(network_of(call.peer.address)),
        };
        let mut streams = self.streams.lock();
        let count = streams.entry(of).or_default();
        if *count >= self.max_streams {
            drop(streams);
            let denial = Denial::Streams(self.max_streams);
            self.record_denial(call, access.principal(), denial.reason(), None);
            return Err(denial);
        }
        *count += 1;
        Ok(Some(StreamPermit { of, streams: Arc::clone(&self.streams) }))
    }

    fn denied(&self, call: Call<'_>, principal: Option<&Principal>, denial: Denial) -> Verdict {
        let problem = match &denial {
            Denial::Token(problem) => Some(problem.name()),
            _ => None,
        };
        self.record_denial(call, principal, denial.reason(), problem);
        Verdict::Denied(denial)
    }

    /// Counts a denied call, and logs it unless there are too many; with the problem of its token, if that is the reason.
    pub fn record_denial(
        &self,
        call: Call<'_>,
        principal: Option<&Principal>,
        reason: &str,
        problem: Option<&'static str>,
    ) {
        self.metrics.calls_denied.with_label_values(&[reason]).inc();
        let Some(unlogged) = self.log_limit.take() else { return };
        // Only known methods: text from the caller must not reach the log.
        let method = self.needs.get_key_value(call.method).map_or("unknown", |(method, _)| *method);
        let principal = principal.map_or("none", |principal| principal.name.as_str());
        tracing::warn!(principal, address = %call.peer.address, method, reason, problem, unlogged, "denied a call");
    }
}

/// The single token in the metadata; none without an authorization header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_alone = values.next().is_none();
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = parts.filter(|(scheme, _)| is_alone && scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| Some(token)).ok_or(Denial::Token(TokenProblem::Scheme))
}

/// The network of an address: for IPv6 its /64, since a client controls all of it.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
