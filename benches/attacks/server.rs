//! The server that is attacked, with a PostgreSQL of its own.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reservd::{
    embedded,
    rpc::pb::{BatchCreateEventsRequest, CreateEventRequest, Event, event_service_client::EventServiceClient},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::{EVENT, Failure};

pub struct Server {
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
    /// With TLS: the certificate.
    certificate: Option<String>,
}

impl Server {
    pub async fn start(with_tls: bool) -> Result<Self, Failure> {
        let folder = embedded::temporary_data_parent().join(format!("reservd-attacks-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_reservd"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--set", "server.metrics_listen=", "--set"]);
        command.args(["telemetry.log=error", "--data-dir"]).arg(folder.join("data"));
        let mut certificate = None;
        if with_tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
            let (pem, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
            fs::write(&pem, made.cert.pem())?;
            fs::write(&key, made.signing_key.serialize_pem())?;
            command.arg("--set").arg(format!("tls.certificate={}", pem.display()));
            command.arg("--set").arg(format!("tls.key={}", key.display()));
            certificate = Some(made.cert.pem());
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
        let address = loop {
            let line = lines.next_line().await?.ok_or("the server did not start")?;
            match line.strip_prefix("reservd serves on ") {
                Some(address) => break address.parse()?,
                None => eprintln!("{line}"),
            }
        };
        // What it complains about is worth seeing.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("server: {line}");
            }
        });
        let server = Self { address, child, folder, certificate };
        server.create_events().await?;
        Ok(server)
    }

    pub async fn connect(&self) -> Result<Channel, Failure> {
        let Some(certificate) = &self.certificate else {
            return Ok(Channel::from_shared(format!("http://{}", self.address))?.connect().await?);
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        Ok(Channel::from_shared(format!("https://{}", self.address))?.tls_config(tls)?.connect().await?)
    }

    /// A large event, and some with so many labels that a listing of them is long.
    async fn create_events(&self) -> Result<(), Failure> {
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
        client.batch_create_events(BatchCreateEventsRequest { requests: requests.collect() }).await?;
        Ok(())
    }

    fn process(&self) -> Result<u32, Failure> {
        self.child.id().ok_or_else(|| "the server has ended".into())
    }

    /// A figure of its memory, in bytes.
    pub fn memory(&self, what: &str) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such figure")?;
        Ok(kilobytes.parse::<u64>()? << 10)
    }

    /// Forgets the most memory that it has held so far.
    pub fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id().unwrap_or_default()), "5");
    }

    pub async fn stop(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(i32::try_from(self.process()?)?), Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
