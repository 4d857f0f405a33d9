//! The server that a command calls, and the token that it presents.

use std::{
    net::IpAddr,
    path::PathBuf,
    task::{Context, Poll},
    time::Duration,
};

use clap::Args;
use futures::future::BoxFuture;
use http::{
    HeaderValue, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tonic::{
    Request, Status,
    body::Body,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::{Service, ServiceExt};

use super::{diagnosis::diagnose, failure::Failure};

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

/// A connection on which each call presents a token. Where no gRPC server responds, the status says what does.
#[derive(Clone, Debug)]
pub struct Wire {
    server: Uri,
    channel: Channel,
    token: Option<HeaderValue>,
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    // The call waits instead: a failure here would lose its status.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let (server, channel) = (self.server.clone(), self.channel.clone());
        Box::pin(async move {
            let response = match channel.oneshot(request).await {
                Ok(response) => response,
                Err(error) => return Err(Status::unavailable(diagnose(&server, &error).await)),
            };
            let content = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            if content.starts_with(b"application/grpc") {
                return Ok(response);
            }
            let (address, answer) = (server.authority().map_or("", |authority| authority.as_str()), response.status());
            Err(Status::unavailable(format!(
                "{address} is an HTTP server, not a gRPC server: it answers {answer}; use the address of server.listen"
            )))
        })
    }
}

impl Target {
    /// Connects.
    pub async fn connect(&self) -> Result<Wire, Failure> {
        let token = self.token()?;
        let endpoint = self.endpoint()?;
        let is_safe = endpoint.uri().scheme_str() == Some("https") || is_local(endpoint.uri());
        if token.is_some() && !is_safe && !self.insecure_token {
            let problem = "a token is not sent over http to another machine: use https, or --insecure-token";
            return Err(format!("{}: {problem}", self.server).into());
        }
        self.wire(token).await
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let scheme = if self.server.contains("://") { "" } else { "http://" };
        let endpoint = Endpoint::from_shared(format!("{scheme}{}", self.server));
        Ok(endpoint.map_err(|error| format!("{} is not the URL of a server: {error}", self.server))?)
    }

    async fn wire(&self, token: Option<HeaderValue>) -> Result<Wire, Failure> {
        let mut endpoint = self.endpoint()?.connect_timeout(Duration::from_secs(3));
        let server = endpoint.uri().clone();
        if server.scheme_str() == Some("https") {
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
        match endpoint.connect().await {
            Ok(channel) => Ok(Wire { server, channel, token }),
            Err(error) => Err(diagnose(&server, &error).await.into()),
        }
    }

    fn token(&self) -> Result<Option<HeaderValue>, Failure> {
        let token = match &self.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.map_err(|error| format!("cannot read {}: {error}", file.display()))?)
            }
            None => std::env::var("RESERVD_TOKEN").ok(),
        };
        let Some(token) = token else { return Ok(None) };
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| "the token has invalid characters")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Succeeds if the server is healthy.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let mut client = HealthClient::new(self.wire(None).await?);
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(Duration::from_secs(3));
        let response = client.check(request).await.map_err(|status| status.message().to_owned())?;
        let status = response.into_inner().status();
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
