//! RabbitMQ: one server for all tests, and separate ones for tests that kill it. Each runs on free ports with its
//! own data folder, and ends with this process, even if that is killed.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use lapin::{Connection, ConnectionProperties};
use tokio::sync::OnceCell;

use super::{
    eventually,
    process::TempFolder,
    supervised::{Supervised, free_ports},
};

static SHARED: OnceCell<Rabbit> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The places of the program. Debian's package has the unprivileged one outside PATH.
const PLACES: [&str; 4] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/sbin/rabbitmq-server",
];

/// Runs the broker and Erlang's port mapper until standard input ends; then kills the process group and removes the
/// folder.
const SUPERVISOR: &str = r#"
    epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
    until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do :; done
    "$1" >"$2/out" 2>&1 &
    read -r command
    [ "$command" = keep ] || rm -rf "$2"
    kill -KILL 0
"#;

/// A broker, and names for one test.
#[derive(Clone)]
pub struct TestBroker {
    pub url: String,
    /// The same with TLS, by a certificate that the system does not trust.
    pub tls_url: String,
    /// The file of that certificate.
    pub certificate: String,
    /// The exchange for changes.
    pub exchange: String,
    /// The queue for commands.
    pub commands: String,
}

impl TestBroker {
    /// New names in the shared broker.
    pub async fn new() -> Self {
        SHARED.get_or_init(Rabbit::start).await.names()
    }

    /// The settings for a server that uses it.
    pub fn settings(&self) -> [(&str, &str); 3] {
        [("broker.url", &self.url), ("broker.exchange", &self.exchange), ("broker.commands", &self.commands)]
    }

    /// The same broker through a proxy.
    pub fn through(&self, address: std::net::SocketAddr) -> Self {
        Self { url: format!("amqp://{address}/%2f"), ..self.clone() }
    }

    /// A connection of the test.
    pub async fn connect(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.expect("a connection to RabbitMQ")
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("amqp://").trim_end_matches("/%2f").to_owned()
    }
}

/// A RabbitMQ server.
pub struct Rabbit {
    folder: TempFolder,
    ports: [u16; 4],
    running: Option<Supervised>,
}

impl Rabbit {
    /// A server that accepts connections.
    pub async fn start() -> Self {
        let mut rabbit = Self { folder: TempFolder::new(), ports: free_ports(), running: None };
        let folder = &rabbit.folder;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let certificate = folder.file("certificate.pem", made.cert.pem());
        let key = folder.file("key.pem", made.signing_key.serialize_pem());
        let [port, _, _, tls_port] = rabbit.ports;
        let config = format!(
            "listeners.tcp.local = 127.0.0.1:{port}\nlisteners.ssl.local = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {certificate}\nssl_options.certfile = {certificate}\n\
             ssl_options.keyfile = {key}\ndisk_free_limit.absolute = 1MB\nlog.console = false\n"
        );
        folder.file("rabbitmq.conf", config);
        rabbit.folder.file("enabled_plugins", "[].");
        rabbit.run().await;
        rabbit
    }

    /// New names for a test.
    pub fn names(&self) -> TestBroker {
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        TestBroker {
            url: format!("amqp://127.0.0.1:{}/%2f", self.ports[0]),
            exchange: format!("changes-{name}"),
            commands: format!("commands-{name}"),
            tls_url: format!("amqps://localhost:{}/%2f", self.ports[3]),
            certificate: self.folder.path("certificate.pem").display().to_string(),
        }
    }

    /// How often `name` occurs in the files of its metadata.
    pub fn has_on_disk(&self, name: &str) -> usize {
        let folder = self.folder.path(&format!("data/test{}@localhost", self.ports[0]));
        let files = std::fs::read_dir(folder).expect("it has its data there");
        let found = files.map(|file| {
            let content = std::fs::read(file.expect("readable").path()).unwrap_or_default();
            content.windows(name.len()).filter(|window| *window == name.as_bytes()).count()
        });
        found.sum()
    }

    /// Kills it like a power cut, and waits for its end.
    pub async fn kill(&mut self) {
        self.running.take().expect("it is running").kill(&self.folder).await;
    }

    /// Restarts it with its data.
    pub async fn run(&mut self) {
        let [port, mapper, distribution, _] = self.ports;
        let folder = self.folder.path("");
        let path = |name: &str| self.folder.path(name);
        self.running = Some(Supervised::start(SUPERVISOR, |command| {
            command
                .arg(program())
                .arg(&folder)
                .env("HOME", &folder)
                .env("ERL_EPMD_PORT", mapper.to_string())
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("RABBITMQ_NODENAME", format!("test{port}@localhost"))
                .env("RABBITMQ_DIST_PORT", distribution.to_string())
                .env("RABBITMQ_MNESIA_BASE", path("data"))
                .env("RABBITMQ_LOG_BASE", path("log"))
                .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_PID_FILE", path("pid"))
        }));
        let url = self.names().url;
        eventually("RabbitMQ accepts connections", async || {
            Connection::connect(&url, ConnectionProperties::default()).await.is_ok()
        })
        .await;
    }
}

fn program() -> PathBuf {
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    found.expect("RabbitMQ is not installed: run `make rabbitmq`").to_owned()
}
