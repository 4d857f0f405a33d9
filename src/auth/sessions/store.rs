//! The sessions in Redis: one script a function, each one step that happens whole or not at all.
//!
//! | key | what | lapses |
//! | --- | --- | --- |
//! | `<prefix>session:<id>` | a hash: the fields of a session | with the session |
//! | `<prefix>sessions-of:<user_id>` | a sorted set: the user's session ids, by when they lapse | with the last of them |
//! | `<prefix>revoked` | a channel: the ids of sessions that were revoked, with spaces between | |
//!
//! The time is Redis's own: no other clock decides whether a session is good. The scripts name keys that
//! they find in others, so a Redis Cluster can't run them.

use std::{fs, sync::LazyLock, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, Script, ScriptInvocation, TlsCertificates,
    aio::{MultiplexedConnection, PubSub},
    io::tcp::TcpSettings,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    record::{Kept, Session, Wish, written_kind, written_roles},
    token::SessionId,
};
use crate::{auth::principal::Roles, config::Sessions as Settings, domain::ids::UserId};

/// After a failure to connect, for so long nobody tries again, and everybody is told at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A script, with what all of them share.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/prelude.lua"), include_str!(concat!("lua/", $name)))))
    };
}

static OPEN: LazyLock<Script> = script!("open.lua");
static USE: LazyLock<Script> = script!("use.lua");
static GET: LazyLock<Script> = script!("get.lua");
static LIST: LazyLock<Script> = script!("list.lua");
static REVOKE: LazyLock<Script> = script!("revoke.lua");
static REVOKE_USER: LazyLock<Script> = script!("revoke_user.lua");

/// Why Redis can't be asked. None of these tells a secret: not what Redis says, which may quote what it
/// was told, but what kind of thing it says.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The settings' URL is not one.
    #[error("sessions.url (REDIS_URL) is not a URL such as rediss://user:password@host:6379/0")]
    Url,
    /// `sessions.ca_file` can't be read, or is no certificate.
    #[error("sessions.ca_file can't be used: {0}")]
    CaFile(String),
    /// It can't be reached.
    #[error("Redis can't be reached: {0}")]
    Away(String),
    /// It refuses.
    #[error("Redis refuses: {kind} ({code})")]
    Refused {
        /// What kind of refusal.
        kind: String,
        /// Redis's code for it.
        code: String,
    },
    /// It takes too long.
    #[error("Redis did not answer in time")]
    Silent,
    /// It was tried a moment ago, in vain.
    #[error("Redis could not be reached a moment ago")]
    JustTried,
    /// What it has of a session is not as it was ever written.
    #[error("what Redis has of a session can't be read")]
    Unreadable,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoChance,
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        if error.is_io_error() {
            return Self::Away(error.to_string());
        }
        Self::Refused { kind: error.category().to_owned(), code: error.code().unwrap_or("no code").to_owned() }
    }
}

/// Which sessions a caller reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    All,
    /// Those with these roles, of any user.
    WithRoles(Roles),
    /// Those of this user.
    Of(UserId),
}

impl Reach {
    /// Whether it reaches this session.
    pub fn has(&self, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::WithRoles(roles) => session.roles == *roles,
            Self::Of(user_id) => session.user_id == *user_id,
        }
    }

    /// The user and the roles that a session must have, as the scripts take them; empty: any. No user is
    /// called that, nor is a session without roles.
    fn written(&self) -> (String, String) {
        let any = String::new;
        match self {
            Self::All => (any(), any()),
            Self::WithRoles(roles) => (any(), written_roles(*roles)),
            Self::Of(user_id) => (user_id.to_string(), any()),
        }
    }
}

/// The way to Redis.
pub struct Store {
    client: Client,
    line: Mutex<Line>,
    settings: Settings,
}

#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that who found one broken does not drop the next.
    number: u64,
    failed: Option<Instant>,
}

impl Store {
    /// The way that the settings describe. Nothing is connected yet.
    pub fn new(settings: &Settings) -> Result<Self, Trouble> {
        let info = settings.url.expose().into_connection_info().map_err(|_| Trouble::Url)?;
        // Small messages must not wait for more.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = if settings.ca_file.is_empty() {
            Client::open(info).map_err(|_| Trouble::Url)?
        } else {
            let root_cert = fs::read(&settings.ca_file).map_err(|error| Trouble::CaFile(error.to_string()))?;
            // The client would take a file without any, and then trust nobody.
            let mut found = CertificateDer::pem_slice_iter(&root_cert).peekable();
            if found.peek().is_none() || found.any(|one| one.is_err()) {
                return Err(Trouble::CaFile("it has no certificates in PEM".to_owned()));
            }
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
            Client::build_with_tls(info, certificates).map_err(|_| Trouble::Url)?
        };
        Ok(Self { client, line: Mutex::default(), settings: settings.clone() })
    }

    fn session_key(&self, id: SessionId) -> String {
        format!("{}{id}", self.sessions())
    }

    fn sessions(&self) -> String {
        format!("{}session:", self.settings.prefix)
    }

    fn users(&self) -> String {
        format!("{}sessions-of:", self.settings.prefix)
    }

    fn channel(&self) -> String {
        format!("{}revoked", self.settings.prefix)
    }

    /// Opens a session under this name; returns it with those that went for it.
    pub async fn open(&self, id: SessionId, wish: &Wish) -> Result<(Option<Session>, Vec<SessionId>), Trouble> {
        let mut call = OPEN.key(self.session_key(id));
        call.key(format!("{}{}", self.users(), wish.user_id))
            .arg(id.to_string())
            .arg(wish.user_id.as_str())
            .arg(written_roles(wish.roles))
            .arg(&wish.created_by)
            .arg(&wish.description)
            .arg(written_kind(wish.kind))
            .arg(millis(wish.lifetime))
            .arg(millis(self.settings.max_lifetime))
            .arg(self.settings.max_per_user)
            .arg(self.sessions())
            .arg(self.channel());
        let (gone, kept): (Vec<String>, Kept) = self.run(&call).await?;
        Ok((kept.session(id), gone.iter().filter_map(|id| SessionId::parse(id)).collect()))
    }

    /// Reads a session because it is used, which may let it last longer.
    pub async fn use_session(&self, id: SessionId) -> Result<Option<Session>, Trouble> {
        let mut call = USE.key(self.session_key(id));
        call.arg(id.to_string()).arg(millis(self.settings.refresh_interval)).arg(self.users());
        self.read(id, &call).await
    }

    /// Reads a session, which changes nothing.
    pub async fn get(&self, id: SessionId) -> Result<Option<Session>, Trouble> {
        self.read(id, &GET.key(self.session_key(id))).await
    }

    async fn read(&self, id: SessionId, call: &ScriptInvocation<'_>) -> Result<Option<Session>, Trouble> {
        let kept: Option<Kept> = self.run(call).await?;
        let Some(kept) = kept else { return Ok(None) };
        let session = kept.session(id);
        if session.is_none() {
            tracing::error!(%id, "a session in Redis is not as it was ever written, and opens nothing");
        }
        Ok(session)
    }

    /// The sessions of a user, in no order.
    pub async fn list(&self, user_id: &UserId) -> Result<Vec<Session>, Trouble> {
        let mut call = LIST.key(format!("{}{user_id}", self.users()));
        call.arg(self.sessions());
        let found: Vec<(String, Kept)> = self.run(&call).await?;
        Ok(found.into_iter().filter_map(|(id, kept)| kept.session(SessionId::parse(&id)?)).collect())
    }

    /// Revokes a session, if it is there and within reach; returns whether it was.
    pub async fn revoke(&self, id: SessionId, reach: &Reach) -> Result<bool, Trouble> {
        let (user, roles) = reach.written();
        let mut call = REVOKE.key(self.session_key(id));
        call.arg(id.to_string()).arg(user).arg(roles).arg(self.users()).arg(self.channel());
        self.run::<u64>(&call).await.map(|revoked| revoked == 1)
    }

    /// Revokes those sessions of a user that are within reach; returns how many they were.
    pub async fn revoke_user(&self, user_id: &UserId, reach: &Reach) -> Result<u32, Trouble> {
        if matches!(reach, Reach::Of(own) if own != user_id) {
            return Ok(0);
        }
        let mut call = REVOKE_USER.key(format!("{}{user_id}", self.users()));
        call.arg(reach.written().1).arg(self.sessions()).arg(self.channel());
        self.run(&call).await
    }

    /// A connection of its own that is told of revoked sessions, from the moment at which this returns.
    pub async fn listen(&self) -> Result<PubSub, Trouble> {
        let subscribed = async {
            let mut ear = self.client.get_async_pubsub().await?;
            ear.subscribe(self.channel()).await?;
            Ok::<_, RedisError>(ear)
        };
        Ok(timeout(self.settings.time_limit, subscribed).await.map_err(|_| Trouble::Silent)??)
    }

    /// What Redis does when its memory is full, if it tells.
    pub async fn eviction_policy(&self) -> Option<String> {
        let limit = self.settings.time_limit;
        let ask = async {
            let (mut connection, _) = self.connection().await.ok()?;
            let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.ok()?;
            info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(|policy| policy.trim().to_owned())
        };
        timeout(limit, ask).await.ok().flatten()
    }

    /// Drops the connection: the next who needs one makes it anew.
    pub async fn hang_up(&self) {
        self.line.lock().await.connection = None;
    }

    async fn run<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Trouble> {
        let deadline = Instant::now() + self.settings.time_limit;
        let connected = timeout_at(deadline, self.connection()).await;
        let (mut connection, number) = connected.map_err(|_| Trouble::Silent)??;
        let answer = timeout_at(deadline, call.invoke_async(&mut connection)).await;
        let is_broken = match &answer {
            Ok(Err(error)) => error.is_unrecoverable_error(),
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        if is_broken {
            let mut line = self.line.lock().await;
            if line.number == number {
                line.connection = None;
            }
        }
        Ok(answer.map_err(|_| Trouble::Silent)??)
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Trouble> {
        let mut line = self.line.lock().await;
        if let Some(connection) = &line.connection {
            return Ok((connection.clone(), line.number));
        }
        if line.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return Err(Trouble::JustTried);
        }
        let limit = Some(self.settings.time_limit);
        let config = AsyncConnectionConfig::new().set_connection_timeout(limit).set_response_timeout(limit);
        // Where its caller has no more time this is dropped, and counts as failed.
        line.failed = Some(Instant::now());
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        line.failed = made.is_err().then(Instant::now);
        let connection = made?;
        line.number += 1;
        line.connection = Some(connection.clone());
        Ok((connection, line.number))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
