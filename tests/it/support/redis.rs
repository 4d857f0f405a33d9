//! Redis: one server for all tests, and separate ones for tests that kill it. Each runs on free ports with its own
//! data folder, and ends with this process, even if that is killed.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::signal::{Signal, kill};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::sync::OnceCell;

use super::{
    eventually,
    process::TempFolder,
    supervised::{Supervised, free_ports, pid},
};

static SHARED: OnceCell<Redis> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The password of Redis.
pub const PASSWORD: &str = "redis-canary-7f3a";

/// Runs Redis until standard input ends; then kills it and removes the folder.
const SUPERVISOR: &str = r#"
    redis-server "$1/redis.conf" >"$1/out" 2>&1 &
    echo "$!" >"$1/pid"
    read -r command
    kill -KILL "$!"
    [ "$command" = keep ] || rm -rf "$1"
"#;

/// A Redis, and a prefix for one test.
#[derive(Clone)]
pub struct TestRedis {
    pub url: String,
    /// The same with TLS, by an authority that the system does not trust.
    pub tls_url: String,
    /// The file of that authority.
    pub authority: String,
    /// The prefix of the keys.
    pub prefix: String,
}

impl TestRedis {
    /// A new prefix in the shared Redis.
    pub async fn new() -> Self {
        SHARED.get_or_init(Redis::start).await.names()
    }

    /// The settings for a server that uses it. Without periodic rechecks, so that a test sees only the effects of
    /// messages; and with a long time limit, since all tests share the disk.
    pub fn settings(&self) -> [(&str, &str); 4] {
        [
            ("sessions.url", &self.url),
            ("sessions.prefix", &self.prefix),
            ("sessions.refresh_interval", "1h"),
            ("sessions.time_limit", "20s"),
        ]
    }

    /// The same Redis through a proxy.
    pub fn through(&self, address: SocketAddr) -> Self {
        Self { url: format!("redis://:{PASSWORD}@{address}/0"), ..self.clone() }
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.url.rsplit_once('@').expect("it has a password").1.trim_end_matches("/0").to_owned()
    }

    /// A connection of the test.
    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("a connection to Redis")
    }

    /// All keys with their content, as text.
    pub async fn dump(&self) -> Vec<String> {
        let mut redis = self.connect().await;
        let mut keys: Vec<String> = redis.keys(format!("{}*", self.prefix)).await.expect("keys can be read");
        keys.sort();
        let mut all = Vec::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.expect("it has a type");
            let content: Vec<String> = match kind.as_str() {
                "hash" => redis.hgetall(&key).await.expect("a hash"),
                "zset" => redis.zrange_withscores(&key, 0, -1).await.expect("a sorted set"),
                other => panic!("{key} is a {other}"),
            };
            let left: i64 = redis.pttl(&key).await.expect("it has a time");
            assert!(left > 0, "{key} never expires");
            all.push(format!("{key} {}", content.join(" ")));
        }
        all
    }
}

/// A Redis server.
pub struct Redis {
    folder: TempFolder,
    ports: [u16; 2],
    running: Option<Supervised>,
}

impl Redis {
    /// A server that accepts connections, and keeps acknowledged writes.
    pub async fn start() -> Self {
        let mut server = Self { folder: TempFolder::new(), ports: free_ports(), running: None };
        let folder = &server.folder;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let certificate = folder.file("certificate.pem", made.cert.pem());
        let key = folder.file("key.pem", made.signing_key.serialize_pem());
        let [port, tls_port] = server.ports;
        let data = folder.path("").display().to_string();
        let config = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\ntls-cert-file {certificate}\ntls-key-file {key}\n\
             tls-ca-cert-file {certificate}\ntls-auth-clients no\nrequirepass {PASSWORD}\ndir {data}\nsave \"\"\n\
             appendonly yes\nappendfsync always\nmaxmemory-policy noeviction\n"
        );
        folder.file("redis.conf", config);
        server.run().await;
        server
    }

    /// A new prefix for a test.
    pub fn names(&self) -> TestRedis {
        let [port, tls_port] = self.ports;
        TestRedis {
            url: format!("redis://:{PASSWORD}@127.0.0.1:{port}/0"),
            tls_url: format!("rediss://:{PASSWORD}@localhost:{tls_port}/0"),
            authority: self.folder.path("certificate.pem").display().to_string(),
            prefix: format!("test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Kills it like a power cut, and waits for its end.
    pub async fn kill(&mut self) {
        self.running.take().expect("it is running").kill(&self.folder).await;
    }

    /// Suspends it: connections stay open without replies.
    pub fn freeze(&self) {
        kill(pid(&self.folder), Signal::SIGSTOP).expect("it can be stopped");
    }

    /// Resumes it.
    pub fn thaw(&self) {
        kill(pid(&self.folder), Signal::SIGCONT).expect("it can be continued");
    }

    /// Restarts it with its data.
    pub async fn run(&mut self) {
        self.running = Some(Supervised::start(SUPERVISOR, |command| command.arg(self.folder.path(""))));
        let client = redis::Client::open(self.names().url).expect("a URL");
        eventually("Redis accepts connections (if it is not installed: `make redis`)", async || {
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
            redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        })
        .await;
    }
}
