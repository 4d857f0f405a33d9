//! A connection to a server, on which each call presents the command's token and has its deadline.

use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{
    HeaderValue, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt, service_fn};

use super::{diagnosis::diagnose, failure::Failure, server::Server, tls::HandshakeError};

/// The time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent connection is pinged, and the time for the reply: a server that is gone ends a watch.
const PING: Duration = Duration::from_secs(20);

/// A connection to a server. Where no gRPC server responds, the status says what does.
#[derive(Clone, Debug)]
pub struct Wire {
    server: Server,
    channel: Channel,
    token: Option<HeaderValue>,
    deadline: Option<Duration>,
}

impl Wire {
    /// Connects. Each call presents the token, and has the deadline.
    pub async fn connect(
        server: Server,
        token: Option<HeaderValue>,
        deadline: Option<Duration>,
    ) -> Result<Self, Failure> {
        match channel(&server).await {
            Ok(channel) => Ok(Self { server, channel, token, deadline }),
            Err(error) => Err(diagnose(&server, &error).await.message().into()),
        }
    }
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
        if let Some(deadline) = self.deadline {
            request.headers_mut().insert("grpc-timeout", grpc_timeout(deadline));
        }
        let (server, channel, deadline) = (self.server.clone(), self.channel.clone(), self.deadline);
        Box::pin(async move {
            let answered = match deadline {
                // The server's own answer comes first.
                Some(deadline) => timeout(deadline + Duration::from_secs(1), channel.oneshot(request)).await,
                None => Ok(channel.oneshot(request).await),
            };
            let response = match answered {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(diagnose(&server, &error).await),
                Err(_) => {
                    return Err(Status::deadline_exceeded(format!("{} did not answer in time", server.address())));
                }
            };
            let content = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            if content.starts_with(b"application/grpc") {
                return Ok(response);
            }
            let (address, answer) = (server.address(), response.status());
            Err(Status::unimplemented(format!(
                "{address} is an HTTP server, not a gRPC server: it answers {answer}; give the address of \
                 server.listen with --server URL"
            )))
        })
    }
}

/// The value of the header; at most eight digits are allowed.
fn grpc_timeout(deadline: Duration) -> HeaderValue {
    let millis = deadline.as_millis().min(99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).expect("digits and a letter")
}

async fn channel(server: &Server) -> Result<Channel, tonic::transport::Error> {
    // The connector below is what does TLS, so the endpoint itself is plain.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let endpoint = endpoint.origin(server.url.clone()).http2_keep_alive_interval(PING).keep_alive_timeout(PING);
    let server = Arc::new(server.clone());
    endpoint.connect_with_connector(service_fn(move |_: Uri| stream(Arc::clone(&server)))).await
}

/// Either kind of stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn stream(server: Arc<Server>) -> Result<TokioIo<Box<dyn Stream>>, Box<dyn Error + Send + Sync>> {
    timeout(CONNECT_TIMEOUT, connected(&server)).await.unwrap_or_else(|_| Err("it does not answer".into()))
}

async fn connected(server: &Server) -> Result<TokioIo<Box<dyn Stream>>, Box<dyn Error + Send + Sync>> {
    let (host, port) = server.host_and_port();
    let connection = TcpStream::connect((host, port)).await?;
    connection.set_nodelay(true)?;
    let Some(tls) = &server.tls else { return Ok(TokioIo::new(Box::new(connection))) };
    let name = ServerName::try_from(host.to_owned())?;
    let encrypted = TlsConnector::from(Arc::clone(tls)).connect(name, connection).await;
    Ok(TokioIo::new(Box::new(encrypted.map_err(|error| HandshakeError::of(&error))?)))
}
