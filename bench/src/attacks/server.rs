//! The server that is attacked, with a PostgreSQL of its own.

use std::{collections::BTreeMap, fs, path::PathBuf};

use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::EVENT;
use crate::{
    Failure,
    pb::{BatchCreateEventsRequest, CreateEventRequest, Event, event_service_client::EventServiceClient},
    program::{self, Program, Server},
};

pub struct Attacked {
    pub server: Server,
    folder: PathBuf,
    /// With TLS: the certificate.
    certificate: Option<String>,
}

impl Attacked {
    pub async fn start(with_tls: bool) -> Result<Self, Failure> {
        let folder = program::scratch_parent().join(format!("reservd-attacks-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let data = folder.join("data").display().to_string();
        let mut arguments = vec!["--set".to_owned(), "telemetry.log=error".into(), "--data-dir".into(), data];
        let mut certificate = None;
        if with_tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
            let (pem, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
            fs::write(&pem, made.cert.pem())?;
            fs::write(&key, made.signing_key.serialize_pem())?;
            arguments.extend(["--set".into(), format!("tls.certificate={}", pem.display())]);
            arguments.extend(["--set".into(), format!("tls.key={}", key.display())]);
            certificate = Some(made.cert.pem());
        }
        let server = Program::new(&Program::beside()?, arguments)?.serve(&[]).await?;
        let attacked = Self { server, folder, certificate };
        attacked.create_events().await?;
        Ok(attacked)
    }

    pub async fn connect(&self) -> Result<Channel, Failure> {
        let Some(certificate) = &self.certificate else {
            return Ok(Channel::from_shared(format!("http://{}", self.server.address))?.connect().await?);
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        Ok(Channel::from_shared(format!("https://{}", self.server.address))?.tls_config(tls)?.connect().await?)
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
        let batch = BatchCreateEventsRequest { requests: requests.collect(), ..Default::default() };
        client.batch_create_events(batch).await?;
        Ok(())
    }

    /// Stops it, and removes its data.
    pub async fn stop(self) -> Result<(), Failure> {
        let done = self.server.stop().await;
        fs::remove_dir_all(&self.folder)?;
        done
    }
}
