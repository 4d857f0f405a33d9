//! The server that a command calls, and the token that it presents.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;
use http::{HeaderValue, Uri, header::AUTHORIZATION, uri::Scheme};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::failure::Failure;

/// The server to call.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The server's address
    #[arg(long, default_value = "http://127.0.0.1:50051", env = "RESERVD_ADDRESS", value_name = "URL")]
    server: String,
    /// A PEM file of the authorities to trust for https, instead of those of the system
    #[arg(long, env = "RESERVD_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A file with the token to present; RESERVD_TOKEN in the environment is the token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Present the token over http to another machine, for everyone on the way to read
    #[arg(long)]
    insecure_token: bool,
}

/// A connection on which each call presents a token.
pub type Wire = InterceptedService<Channel, Bearer>;

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(Option<HeaderValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().as_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

impl Target {
    /// Connects.
    pub async fn connect(&self) -> Result<Wire, Failure> {
        let (endpoint, bearer) = (self.endpoint()?, self.bearer()?);
        let is_safe = endpoint.uri().scheme() == Some(&Scheme::HTTPS) || is_local(endpoint.uri());
        if bearer.0.is_some() && !is_safe && !self.insecure_token {
            let problem = "a token is not sent over http to another machine: use https, or --insecure-token";
            return Err(format!("{}: {problem}", self.server).into());
        }
        Ok(InterceptedService::new(self.channel(endpoint).await?, bearer))
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let scheme = if self.server.contains("://") { "" } else { "http://" };
        let endpoint = Endpoint::from_shared(format!("{scheme}{}", self.server));
        Ok(endpoint.map_err(|error| format!("{} is not the URL of a server: {error}", self.server))?)
    }

    async fn channel(&self, endpoint: Endpoint) -> Result<Channel, Failure> {
        let mut endpoint = endpoint.connect_timeout(Duration::from_secs(3));
        if endpoint.uri().scheme() == Some(&Scheme::HTTPS) {
            let tls = match &self.ca {
                None => ClientTlsConfig::new().with_native_roots(),
                Some(file) => {
                    let pem =
                        std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| format!("TLS can't be used: {error}"))?;
        }
        endpoint.connect().await.map_err(|_| format!("no server responds at {}", self.server).into())
    }

    fn bearer(&self) -> Result<Bearer, Failure> {
        let token = match &self.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.map_err(|error| format!("cannot read {}: {error}", file.display()))?)
            }
            None => std::env::var("RESERVD_TOKEN").ok(),
        };
        let Some(token) = token else { return Ok(Bearer(None)) };
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| "the token has invalid characters")?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }

    /// Succeeds if the server is healthy.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let mut client = HealthClient::new(self.channel(self.endpoint()?).await?);
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(Duration::from_secs(3));
        let status = client.check(request).await?.into_inner().status();
        if status == ServingStatus::Serving {
            Ok(())
        } else {
            Err(format!("{} is {}", self.server, status.as_str_name()).into())
        }
    }
}

/// Whether a URL leads to this machine and nowhere else.
fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
