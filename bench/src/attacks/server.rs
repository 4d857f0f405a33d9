//! The server that is attacked, with a PostgreSQL of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};

use http::{HeaderValue, header::AUTHORIZATION};
use reservd::embedded::{Embedded, EmbeddedOptions};
use sqlx::{ConnectOptions, PgConnection};
use tokio::process::{Child, Command};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};

use super::EVENT;
use crate::{
    Failure, guarded,
    pb::{BatchCreateEventsRequest, CreateEventRequest, Event, event_service_client::EventServiceClient},
    program::{self, Program, Server},
};

/// Where the data of servers is, until this is dropped.
pub struct Site(PathBuf);

/// What a server asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Nothing,
    Tls,
    /// Tokens, which may be those of sessions.
    Sessions,
}

/// A server that runs.
pub struct Attacked {
    pub server: Server,
    /// Where it serves its metrics.
    pub metrics: SocketAddr,
    /// With TLS: the certificate.
    certificate: Option<String>,
    /// What honest callers have to show, if anything.
    bearer: Option<HeaderValue>,
    /// Where the sessions are. Killed where it is dropped.
    _redis: Option<Child>,
}

impl Site {
    pub fn new() -> Result<Self, Failure> {
        let name = format!("reservd-attacks-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let folder = program::scratch_parent().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Starts a server on the data.
    pub async fn start(&self, security: Security) -> Result<Attacked, Failure> {
        let metrics = free_address()?;
        let mut settings = vec![
            "telemetry.log=error,reservd::app=info".to_owned(),
            format!("embedded.data_dir={}", self.data().display()),
        ];
        let (mut certificate, mut bearer, mut redis) = (None, None, None);
        let mut program = Program::new(&Program::beside()?, Vec::new())?;
        match security {
            Security::Nothing => {}
            Security::Tls => {
                let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
                let (pem, key) = (self.0.join("certificate.pem"), self.0.join("key.pem"));
                fs::write(&pem, made.cert.pem())?;
                fs::write(&key, made.signing_key.serialize_pem())?;
                settings.extend([format!("tls.certificate={}", pem.display()), format!("tls.key={}", key.display())]);
                certificate = Some(made.cert.pem());
            }
            Security::Sessions => {
                let (shown, with_tokens) = guarded::with_tokens(&program, &self.0.join("dev-keys")).await?;
                (bearer, program) = (Some(shown), with_tokens);
                let address = free_address()?;
                redis = Some(start_redis(address, &self.0)?);
                settings.push(format!("sessions.url=redis://{address}/0"));
            }
        }
        let settings: Vec<_> = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
        let listen = format!("server.metrics_listen={metrics}");
        let server = program.with(&settings).serve(&["--set", &listen]).await?;
        Ok(Attacked { server, metrics, certificate, bearer, _redis: redis })
    }

    /// A connection to the database of a server that runs, and what keeps it.
    pub async fn sql(&self) -> Result<(Embedded, PgConnection), Failure> {
        let guest = Embedded::start(&EmbeddedOptions::durable(self.data())).await?;
        let sql = guest.connect_options().connect().await?;
        Ok((guest, sql))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("reservd-bench: {} could not be removed: {error}", self.0.display());
        }
    }
}

impl Attacked {
    pub async fn connect(&self) -> Result<Channel, Failure> {
        let Some(certificate) = &self.certificate else {
            return Ok(Channel::from_shared(format!("http://{}", self.server.address))?.connect().await?);
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        Ok(Channel::from_shared(format!("https://{}", self.server.address))?.tls_config(tls)?.connect().await?)
    }

    /// What an honest caller has to show, if anything.
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.bearer.clone()
    }

    /// A large event, and some with so many labels that a listing of them is long.
    pub async fn create_events(&self) -> Result<(), Failure> {
        let labels: BTreeMap<_, _> = (0..32).map(|n| (format!("k{n}"), "v".repeat(256))).collect();
        let long = (0..60).map(|n| Event {
            event_id: format!("long-{n}"),
            capacity: 1,
            labels: labels.clone(),
            ..Default::default()
        });
        let event = Event { event_id: EVENT.into(), capacity: 1_000_000, ..Default::default() };
        let requests = long.chain([event]).map(|event| CreateEventRequest { event: Some(event), ..Default::default() });
        let mut client = EventServiceClient::new(self.connect().await?);
        let batch = BatchCreateEventsRequest { requests: requests.collect(), ..Default::default() };
        client.batch_create_events(batch).await?;
        Ok(())
    }
}

/// A call that shows what has to be shown.
pub fn request<T>(message: T, bearer: Option<&HeaderValue>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(bearer) = bearer {
        request.metadata_mut().as_mut().insert(AUTHORIZATION, bearer.clone());
    }
    request
}

/// An address of this machine that nothing listens on.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start_redis(address: SocketAddr, folder: &Path) -> Result<Child, Failure> {
    let started = Command::new("redis-server")
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--save", ""])
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    started.map_err(|error| format!("redis-server does not start: {error} (`make redis` installs it)").into())
}
