//! Asked about every call: who is it, may it, and not too often?

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, header::AUTHORIZATION};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    access::{Access, Credentials},
    certificate,
    denial::{Denial, TokenProblem},
    permissions::{self, Need},
    principal::{Principal, Roles},
    rate::Buckets,
    sessions::{Sessions, token},
    tokens::{LastToken, Tokens},
};
use crate::{config::Config, domain::caller::Actor, telemetry::metrics::Metrics};

/// Refusals that are logged a second, and at once. More are counted only: who is refused must not be
/// able to fill a disk.
const LOGGED_PER_SECOND: u32 = 5;
const LOGGED_AT_ONCE: u32 = 50;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// What its certificate shows; none without one.
    pub certificate: Option<Result<Arc<Credentials>, Denial>>,
    /// The token that it showed last.
    pub last_token: Arc<LastToken>,
}

/// A call, as far as it matters here.
#[derive(Clone, Copy)]
pub struct Call<'c> {
    /// The RPC's path.
    pub method: &'c str,
    /// The call's metadata.
    pub headers: &'c HeaderMap,
    /// Who is at the other end.
    pub peer: &'c Peer,
}

/// What a call gets.
pub enum Verdict {
    /// It may go on.
    Granted(Access),
    /// It may not.
    Denied(Denial),
    /// Others have to be asked to tell, for keys or about a session: [`Guard::decide_anew`].
    AskAnew,
}

/// Asked about every call.
pub struct Guard {
    tokens: Option<Tokens>,
    sessions: Option<Arc<Sessions>>,
    certificate_roles: HashMap<String, Roles>,
    asks: bool,
    needs: HashMap<&'static str, Need>,
    by_principal: Option<Buckets>,
    by_address: Option<Buckets>,
    max_streams: u32,
    streams: Arc<Mutex<HashMap<u64, u32>>>,
    hasher: RandomState,
    logged: Option<Buckets>,
    unlogged: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A token that a call has shown.
enum Presented<'c> {
    Jwt(&'c Tokens, &'c str),
    Session(&'c Arc<Sessions>, &'c str),
}

/// A stream under way, counted until this is dropped.
pub struct StreamPlace {
    of: u64,
    streams: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = streams.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.of);
            }
        }
    }
}

impl Guard {
    /// The guard that the settings describe. Its tokens have no keys yet.
    pub fn new(config: &Config, sessions: Option<Arc<Sessions>>, metrics: Arc<Metrics>) -> Self {
        let limits = &config.limits;
        let roles = config.auth.certificate_roles.iter().map(|(name, roles)| (name.clone(), Roles::of(roles)));
        Self {
            tokens: (!config.auth.jwks.is_empty()).then(|| Tokens::new(&config.auth)),
            sessions,
            certificate_roles: roles.collect(),
            asks: config.has_authentication(),
            needs: permissions::by_path(),
            by_principal: Buckets::new(limits.principal_rate, limits.principal_burst),
            by_address: Buckets::new(limits.address_rate, limits.address_burst),
            max_streams: limits.watches_per_principal,
            streams: Arc::default(),
            hasher: RandomState::new(),
            logged: Buckets::new(LOGGED_PER_SECOND, LOGGED_AT_ONCE),
            unlogged: AtomicU64::new(0),
            metrics,
        }
    }

    /// Its tokens, if it takes any.
    pub const fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// The sessions, if there are any.
    pub const fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.sessions.as_ref()
    }

    /// Who a client certificate shows its bearer to be.
    pub fn of_certificate(&self, certificate: &CertificateDer<'_>) -> Result<Arc<Credentials>, Denial> {
        let name = certificate::name(certificate).ok_or(Denial::Certificate)?;
        let roles = self.certificate_roles.get(&name).copied().unwrap_or_default();
        let name = Actor::parse(&format!("certificate:{name}")).ok_or(Denial::Certificate)?;
        Ok(Arc::new(Credentials::of(Principal { name, roles, user_id: None })))
    }

    /// Decides about a call.
    pub fn decide(&self, call: Call<'_>) -> Verdict {
        let need = self.needs.get(call.method).copied();
        if need == Some(Need::Nothing) {
            return Verdict::Granted(Access::of_anyone());
        }
        if let Some(buckets) = &self.by_address
            && let Err(wait) = buckets.take(&network_of(call.peer.address), Instant::now())
        {
            return self.denied(call, None, Denial::Rate { of: "address", wait });
        }
        if !self.asks {
            return Verdict::Granted(Access::of_anyone());
        }
        match self.identify(call) {
            Ok(Some(credentials)) => self.settle(call, need, credentials),
            Ok(None) => Verdict::AskAnew,
            Err(denial) => self.denied(call, None, denial),
        }
    }

    /// Decides about a call once those were asked who can tell.
    pub async fn decide_anew(&self, call: Call<'_>) -> Verdict {
        let checked = match self.presented(call) {
            Ok(Some(Presented::Jwt(tokens, token))) => tokens.check_anew(token).await,
            Ok(Some(Presented::Session(sessions, token))) => sessions.look_up(token).await,
            Ok(None) => Err(Denial::CredentialsMissing),
            Err(denial) => Err(denial),
        };
        match checked {
            Ok(credentials) => self.settle(call, self.needs.get(call.method).copied(), credentials),
            Err(denial) => self.denied(call, None, denial),
        }
    }

    /// Who calls: the bearer of its token, which must then be good; else who its certificate names.
    fn identify(&self, call: Call<'_>) -> Result<Option<Arc<Credentials>>, Denial> {
        match self.presented(call)? {
            Some(Presented::Jwt(tokens, token)) => tokens.check(token, &call.peer.last_token),
            Some(Presented::Session(sessions, token)) => sessions.check(token),
            None => call.peer.certificate.clone().unwrap_or(Err(Denial::CredentialsMissing)).map(Some),
        }
    }

    /// The token of a call, with who can tell whose it is; none where there is none, or none are taken.
    fn presented<'c>(&'c self, call: Call<'c>) -> Result<Option<Presented<'c>>, Denial> {
        if self.tokens.is_none() && self.sessions.is_none() {
            return Ok(None);
        }
        let Some(token) = bearer(call.headers)? else { return Ok(None) };
        let presented = if token.starts_with(token::PREFIX) {
            self.sessions.as_ref().map(|sessions| Presented::Session(sessions, token))
        } else {
            self.tokens.as_ref().map(|tokens| Presented::Jwt(tokens, token))
        };
        presented.map(Some).ok_or(Denial::Token(TokenProblem::Kind))
    }

    fn settle(&self, call: Call<'_>, need: Option<Need>, credentials: Arc<Credentials>) -> Verdict {
        let principal = &credentials.principal;
        if let Some(buckets) = &self.by_principal
            && let Err(wait) = buckets.take(&principal.name, Instant::now())
        {
            return self.denied(call, Some(principal), Denial::Rate { of: "principal", wait });
        }
        let Some(need) = need else { return self.denied(call, Some(principal), Denial::UnknownMethod) };
        match need.grant(principal) {
            Some(scope) => Verdict::Granted(Access { credentials: Some(credentials), scope }),
            None => self.denied(call, Some(principal), Denial::Role(need.role_names())),
        }
    }

    /// Counts one stream more of a caller, if it may have one.
    pub fn open_stream(&self, access: &Access, call: Call<'_>) -> Result<Option<StreamPlace>, Denial> {
        if self.max_streams == 0 {
            return Ok(None);
        }
        let of = match access.principal() {
            Some(principal) => self.hasher.hash_one(&principal.name),
            None => self.hasher.hash_one(network_of(call.peer.address)),
        };
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.entry(of).or_default();
        if *count >= self.max_streams {
            drop(streams);
            let denial = Denial::Streams(self.max_streams);
            self.note(call, access.principal(), denial.reason());
            return Err(denial);
        }
        *count += 1;
        Ok(Some(StreamPlace { of, streams: Arc::clone(&self.streams) }))
    }

    fn denied(&self, call: Call<'_>, principal: Option<&Principal>, denial: Denial) -> Verdict {
        self.note(call, principal, denial.reason());
        Verdict::Denied(denial)
    }

    /// Takes note of a call that was refused: always in the metrics, and in the log while that is not
    /// too much.
    pub fn note(&self, call: Call<'_>, principal: Option<&Principal>, reason: &str) {
        self.metrics.calls_denied.with_label_values(&[reason]).inc();
        if self.logged.as_ref().is_some_and(|buckets| buckets.take("", Instant::now()).is_err()) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let unlogged = self.unlogged.swap(0, Ordering::Relaxed);
        // A method that there is: a caller's own words don't get into the log.
        let method = self.needs.get_key_value(call.method).map_or("unknown", |(method, _)| *method);
        let principal = principal.map_or("nobody", |principal| principal.name.as_str());
        tracing::warn!(principal, address = %call.peer.address, method, reason, unlogged, "a call was refused");
    }
}

/// The one token of the metadata; none if there is no authorization at all.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_alone = values.next().is_none();
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = parts.filter(|(scheme, _)| is_alone && scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| Some(token)).ok_or(Denial::Token(TokenProblem::Scheme))
}

/// What stands for an address: of IPv6 its /64, since who has one has all of that.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
