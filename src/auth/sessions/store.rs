//! The sessions in Redis: one script for each function, which runs atomically.
//!
//! | key | value | expires |
//! | --- | --- | --- |
//! | `<prefix>session:<id>` | a hash: the fields of a session | with the session |
//! | `<prefix>sessions-of:<user_id>` | a sorted set: the user's session ids, by expire time | with the last of them |
//! | `<prefix>sessions-by:<principal>` | the same of the sessions that a principal created | with the last of them |
//! | `<prefix>revoked` | a channel: the ids of revoked sessions, separated by spaces | |
//!
//! Only Redis's clock decides whether a session has expired. The scripts compute key names from stored values, so
//! a Redis Cluster can't run them.

use std::{fs, net::IpAddr, sync::LazyLock, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, Script, ScriptInvocation,
    TlsCertificates,
    aio::{MultiplexedConnection, PubSub},
    io::tcp::TcpSettings,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    record::{NewSession, Session, StoredSession, encode_roles},
    record_key::RecordKey,
};
use crate::{
    auth::{principal::Roles, session_token::SessionId},
    config::{SessionKind, Sessions as Settings},
    domain::ids::UserId,
};

/// After a failure to connect, calls fail at once for this long.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// The most sessions of one principal that one script revokes.
const REVOKED_A_STEP: u32 = 1000;

/// A script after the shared prelude.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/prelude.lua"), include_str!(concat!("lua/", $name)))))
    };
}

static TIME: LazyLock<Script> = script!("time.lua");
static OPEN: LazyLock<Script> = script!("open.lua");
static USE: LazyLock<Script> = script!("use.lua");
static GET: LazyLock<Script> = script!("get.lua");
static LIST: LazyLock<Script> = script!("list.lua");
static REVOKE: LazyLock<Script> = script!("revoke.lua");
static REVOKE_LIST: LazyLock<Script> = script!("revoke_list.lua");

/// Why Redis has no answer. None of these prints a secret: a message of Redis may quote a request, so only its
/// category is kept.
#[derive(Debug, thiserror::Error)]
pub enum SessionStoreError {
    /// `sessions.url` is malformed.
    #[error("sessions.url (REDIS_URL) is not a URL such as rediss://user:password@host:6379/0")]
    Url,
    /// `sessions.ca_file` can't be read, or has no certificate.
    #[error("sessions.ca_file can't be used: {0}")]
    CaFile(String),
    /// The connection failed.
    #[error("Redis is unreachable: {0}")]
    Unreachable(String),
    /// Redis refused the request.
    #[error("Redis refused the request: {kind} ({code})")]
    Refused {
        /// The category of the error.
        kind: String,
        /// Redis's error code.
        code: String,
    },
    /// `sessions.time_limit` has passed.
    #[error("Redis did not reply in time")]
    Timeout,
    /// A connection attempt failed a moment ago.
    #[error("Redis was unreachable a moment ago")]
    RecentFailure,
    /// The stored fields are malformed.
    #[error("the stored session is malformed")]
    Unreadable,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoRandomness,
}

impl From<RedisError> for SessionStoreError {
    fn from(error: RedisError) -> Self {
        if error.is_io_error() {
            return Self::Unreachable(error.to_string());
        }
        Self::Refused { kind: error.category().to_owned(), code: error.code().unwrap_or("no code").to_owned() }
    }
}

/// The sessions that a caller may access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionScope {
    /// The user whose sessions they are; none: any user's.
    user_id: Option<UserId>,
    /// They have no other roles than these; none: any roles.
    roles: Option<Roles>,
}

impl SessionScope {
    /// All sessions.
    pub const ALL: Self = Self { user_id: None, roles: None };

    /// The sessions of a user, or of any, without other roles than these.
    pub const fn within(user_id: Option<UserId>, roles: Roles) -> Self {
        Self { user_id, roles: Some(roles) }
    }

    /// Whether the session is within the scope.
    pub fn contains(&self, session: &Session) -> bool {
        self.user_id.as_ref().is_none_or(|user_id| *user_id == session.user_id)
            && self.roles.is_none_or(|roles| roles.has_all(session.roles))
    }

    /// The required user for the scripts; an empty text matches any.
    fn encode_user(&self) -> &str {
        self.user_id.as_ref().map_or("", UserId::as_str)
    }

    /// The allowed roles for the scripts.
    fn encode_roles(&self) -> String {
        self.roles.map_or_else(|| "*".to_owned(), encode_roles)
    }
}

/// The sessions in Redis.
pub struct SessionStore {
    client: Client,
    connection: Mutex<ConnectionState>,
    settings: Settings,
    /// Signs and verifies the sessions; none: whatever is in Redis is believed.
    key: Option<RecordKey>,
}

#[derive(Default)]
struct ConnectionState {
    current: Option<MultiplexedConnection>,
    /// Numbers the connections, so that a caller that found one broken does not drop its successor.
    number: u64,
    failed: Option<Instant>,
}

impl SessionStore {
    /// The store of the configured Redis. Does not connect yet.
    pub fn new(settings: &Settings) -> Result<Self, SessionStoreError> {
        let info = settings.url.expose().into_connection_info().map_err(|_| SessionStoreError::Url)?;
        // Without Nagle's delay for small messages.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = if settings.ca_file.is_empty() {
            Client::open(info).map_err(|_| SessionStoreError::Url)?
        } else {
            let root_cert =
                fs::read(&settings.ca_file).map_err(|error| SessionStoreError::CaFile(error.to_string()))?;
            // The client accepts a file without certificates, and then trusts no server.
            let mut found = CertificateDer::pem_slice_iter(&root_cert).peekable();
            if found.peek().is_none() || found.any(|one| one.is_err()) {
                return Err(SessionStoreError::CaFile("it has no PEM certificates".to_owned()));
            }
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
            Client::build_with_tls(info, certificates).map_err(|_| SessionStoreError::Url)?
        };
        let key = RecordKey::new(settings.key.expose());
        Ok(Self { client, connection: Mutex::default(), settings: settings.clone(), key })
    }

    fn channel(&self) -> String {
        format!("{}revoked", self.settings.prefix)
    }

    /// A call of a script, with the prefix of its keys.
    fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        script.arg(&self.settings.prefix)
    }

    /// Opens a session with this id; returns it with the ids of the sessions that it replaces.
    pub async fn open(
        &self,
        id: SessionId,
        new: &NewSession,
    ) -> Result<(Option<Session>, Vec<SessionId>), SessionStoreError> {
        // Redis does not have the key for signatures, so the times to be signed are set here, by its clock.
        let created: u64 = self.run(&self.call(&TIME)).await?;
        let longest = if new.kind == SessionKind::Sliding { self.settings.max_lifetime } else { new.lifetime };
        let fields = new.encode(id, created, created.saturating_add(millis(longest)));
        let mut call = self.call(&OPEN);
        for field in &fields {
            call.arg(field);
        }
        call.arg(self.key.as_ref().map(|key| key.sign(&fields)).unwrap_or_default()).arg(self.settings.max_per_user);
        let (replaced, stored): (Vec<String>, StoredSession) = self.run(&call).await?;
        let replaced = replaced.iter().filter_map(|id| SessionId::parse(id)).collect();
        Ok((stored.session(id, self.key.as_ref()), replaced))
    }

    /// Reads a session and records its use, which may extend it.
    pub async fn use_session(&self, id: SessionId) -> Result<Option<Session>, SessionStoreError> {
        let mut call = self.call(&USE);
        call.arg(id.to_string()).arg(millis(self.settings.refresh_interval));
        self.read(id, &call).await
    }

    /// Reads a session without recording a use.
    pub async fn get(&self, id: SessionId) -> Result<Option<Session>, SessionStoreError> {
        let mut call = self.call(&GET);
        self.read(id, call.arg(id.to_string())).await
    }

    async fn read(&self, id: SessionId, call: &ScriptInvocation<'_>) -> Result<Option<Session>, SessionStoreError> {
        let stored: Option<StoredSession> = self.run(call).await?;
        let Some(stored) = stored else { return Ok(None) };
        let session = stored.session(id, self.key.as_ref());
        if session.is_none() {
            tracing::error!(%id, "a session in Redis is malformed or not signed by reservd, and grants no access");
        }
        Ok(session)
    }

    /// The sessions of a user, in any order.
    pub async fn list(&self, user_id: &UserId) -> Result<Vec<Session>, SessionStoreError> {
        let mut call = self.call(&LIST);
        let found: Vec<(String, StoredSession)> = self.run(call.arg(user_id.as_str())).await?;
        let key = self.key.as_ref();
        Ok(found.into_iter().filter_map(|(id, stored)| stored.session(SessionId::parse(&id)?, key)).collect())
    }

    /// Revokes a session within the scope; returns whether there was one.
    pub async fn revoke(&self, id: SessionId, scope: &SessionScope) -> Result<bool, SessionStoreError> {
        let mut call = self.call(&REVOKE);
        call.arg(id.to_string()).arg(scope.encode_user()).arg(scope.encode_roles());
        self.run::<u64>(&call).await.map(|revoked| revoked == 1)
    }

    /// Revokes the sessions of a user within the scope; returns how many.
    pub async fn revoke_user(&self, user_id: &UserId, scope: &SessionScope) -> Result<u32, SessionStoreError> {
        if scope.user_id.as_ref().is_some_and(|own| own != user_id) {
            return Ok(0);
        }
        let mut call = self.call(&REVOKE_LIST);
        call.arg(format!("sessions-of:{user_id}")).arg(scope.encode_roles()).arg(0);
        self.run::<(u32, u64)>(&call).await.map(|(revoked, _)| revoked)
    }

    /// Revokes all sessions that a principal created; returns how many. In steps, between which Redis serves others.
    pub async fn revoke_created_by(&self, created_by: &str) -> Result<u32, SessionStoreError> {
        let mut call = self.call(&REVOKE_LIST);
        call.arg(format!("sessions-by:{created_by}")).arg(SessionScope::ALL.encode_roles()).arg(REVOKED_A_STEP);
        let mut all = 0_u32;
        loop {
            let (revoked, left): (u32, u64) = self.run(&call).await?;
            all = all.saturating_add(revoked);
            if left == 0 {
                return Ok(all);
            }
        }
    }

    /// Whether others on the network can read and change what it sends and receives: without TLS, to another machine.
    pub fn is_exposed(&self) -> bool {
        let ConnectionAddr::Tcp(host, _) = self.client.get_connection_info().addr() else { return false };
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        host != "localhost" && !host.trim_matches(['[', ']']).parse().is_ok_and(is_loopback)
    }

    /// A separate connection that receives every revocation after this returns.
    pub async fn subscribe(&self) -> Result<PubSub, SessionStoreError> {
        let subscribed = async {
            let mut connection = self.client.get_async_pubsub().await?;
            connection.subscribe(self.channel()).await?;
            Ok::<_, RedisError>(connection)
        };
        Ok(timeout(self.settings.time_limit, subscribed).await.map_err(|_| SessionStoreError::Timeout)??)
    }

    /// The policy for a full memory; none if Redis does not report it.
    pub async fn eviction_policy(&self) -> Option<String> {
        let read = async {
            let (mut connection, _) = self.connect().await.ok()?;
            let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.ok()?;
            info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(|policy| policy.trim().to_owned())
        };
        timeout(self.settings.time_limit, read).await.ok().flatten()
    }

    /// Drops the connection; the next call opens another one.
    pub async fn disconnect(&self) {
        self.connection.lock().await.current = None;
    }

    async fn run<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, SessionStoreError> {
        let deadline = Instant::now() + self.settings.time_limit;
        let connected = timeout_at(deadline, self.connect()).await;
        let (mut connection, number) = connected.map_err(|_| SessionStoreError::Timeout)??;
        let reply = timeout_at(deadline, call.invoke_async(&mut connection)).await;
        let is_broken = match &reply {
            Ok(Err(error)) => error.is_unrecoverable_error(),
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        if is_broken {
            let mut state = self.connection.lock().await;
            if state.number == number {
                state.current = None;
            }
        }
        Ok(reply.map_err(|_| SessionStoreError::Timeout)??)
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, u64), SessionStoreError> {
        let mut state = self.connection.lock().await;
        if let Some(connection) = &state.current {
            return Ok((connection.clone(), state.number));
        }
        if state.failed.is_some_and(|failed| failed.elapsed() < RECONNECT_PAUSE) {
            return Err(SessionStoreError::RecentFailure);
        }
        let limit = Some(self.settings.time_limit);
        let config = AsyncConnectionConfig::new().set_connection_timeout(limit).set_response_timeout(limit);
        // The caller may run out of time and drop this future, which counts as a failure.
        state.failed = Some(Instant::now());
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        state.failed = made.is_err().then(Instant::now);
        let connection = made?;
        state.number += 1;
        state.current = Some(connection.clone());
        Ok((connection, state.number))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
