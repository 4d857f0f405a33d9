//! The server that a command calls: the one of `--server`, or else the one that the settings describe, as `reservd serve`
//! reads them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use http::{HeaderValue, Uri};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    call_error::failed,
    failure::Failure,
    server::Server,
    settings::Settings,
    tls::{Trust, client_config},
    wire::Wire,
};

/// The deadline of a health check.
const HEALTH_DEADLINE: Duration = Duration::from_secs(3);

/// The server to call.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct Target {
    /// The server's address [default: the one of server.listen, with TLS where tls.certificate is set]
    #[arg(long, env = "RESERVD_ADDRESS", hide_env_values = true, value_name = "URL")]
    server: Option<String>,
    /// A PEM file of the authorities to trust for https, instead of those of the system
    #[arg(long, env = "RESERVD_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file of the certificate to present, with its chain
    #[arg(long, env = "RESERVD_CERTIFICATE", hide_env_values = true, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// A PEM file of the private key of --certificate
    #[arg(long, env = "RESERVD_KEY", hide_env_values = true, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// A file with the token to present; RESERVD_TOKEN in the environment is the token itself
    #[arg(long, env = "RESERVD_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Present the token over http to another machine, for everyone on the way to read
    #[arg(long)]
    insecure_token: bool,
    /// The deadline of each call
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    settings: Settings,
}

impl Target {
    /// Where it gets the settings from.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Wire, Failure> {
        self.wire(Some(self.timeout)).await
    }

    /// Connects for calls without a deadline.
    pub async fn connect_for_streams(&self) -> Result<Wire, Failure> {
        self.wire(None).await
    }

    async fn wire(&self, deadline: Option<Duration>) -> Result<Wire, Failure> {
        let (server, token) = (self.server()?, self.token()?);
        if token.is_some() && server.tls.is_none() && !is_local(&server.url) && !self.insecure_token {
            let problem = "a token is not sent over http to another machine: use https, or --insecure-token";
            return Err(format!("{}: {problem}", server.url.to_string().trim_end_matches('/')).into());
        }
        Wire::connect(server, token, deadline).await
    }

    /// Succeeds if the server is healthy. Needs no token.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let server = self.server()?;
        let address = server.address().to_owned();
        let mut client = HealthClient::new(Wire::connect(server, None, Some(HEALTH_DEADLINE)).await?);
        let response = client.check(HealthCheckRequest::default()).await.map_err(failed)?;
        match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            status => Err(format!("{address} is {}", status.as_str_name()).into()),
        }
    }

    fn server(&self) -> Result<Server, Failure> {
        match self.server.as_deref().filter(|server| !server.is_empty()) {
            Some(server) => self.of_flag(server),
            None => self.of_settings(),
        }
    }

    fn of_flag(&self, server: &str) -> Result<Server, Failure> {
        let scheme = if server.contains("://") { "" } else { "http://" };
        let url: Result<Uri, _> = format!("{scheme}{server}").parse();
        let url = url.ok().filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
        let problem = || {
            format!("--server {server}: this is no address of a server; write http://HOST:PORT or https://HOST:PORT")
        };
        let url = url.ok_or_else(problem)?;
        let trust = self.authorities().unwrap_or(Trust::System);
        let tls = if url.scheme_str() == Some("https") { Some(self.tls(trust)?) } else { None };
        Ok(Server { url, tls, setting: None })
    }

    /// The server that these settings describe, on this machine. Its certificate may be for other names, and of an
    /// authority that this machine does not know; but it is known itself.
    fn of_settings(&self) -> Result<Server, Failure> {
        let config = self.settings.load()?;
        let address = reachable(config.server.listen);
        if address.port() == 0 {
            return Err("server.listen has port 0, which is any free one; give the address with --server URL".into());
        }
        let certificate = Path::new(&config.tls.certificate);
        let trust = self.authorities().unwrap_or(Trust::Certificate(certificate));
        let tls = if config.has_tls() { Some(self.tls(trust)?) } else { None };
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Server { url: format!("{scheme}://{address}").parse()?, tls, setting: Some("server.listen") })
    }

    fn authorities(&self) -> Option<Trust<'_>> {
        given(self.ca.as_ref()).map(Trust::Authorities)
    }

    fn tls(&self, trust: Trust<'_>) -> Result<Arc<tokio_rustls::rustls::ClientConfig>, Failure> {
        let identity = given(self.certificate.as_ref()).zip(given(self.key.as_ref()));
        Ok(Arc::new(client_config(trust, identity)?))
    }

    fn token(&self) -> Result<Option<HeaderValue>, Failure> {
        let token = match given(self.token_file.as_ref()) {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.map_err(|error| format!("cannot read {}: {error}", file.display()))?)
            }
            None => std::env::var("RESERVD_TOKEN").ok(),
        };
        let Some(token) = token.as_deref().map(str::trim).filter(|token| !token.is_empty()) else { return Ok(None) };
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| "the token has characters that no token has")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A path that is not empty, as a variable without a value is.
fn given(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

/// An address at which a server that listens on this one can be reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// Whether a URL leads to this machine and nowhere else.
fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
