//! One GET of one small document, over HTTPS: all that keys need of HTTP. No redirects, no proxies, no
//! cookies; bounded in size and time.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, HOST},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// How long a GET may take.
const LIMIT: Duration = Duration::from_secs(5);
/// No key set is longer.
const MAX_BYTES: usize = 256 * 1024;

/// Why there is no document. It never has the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL can't be used.
    #[error("it is not a URL that can be fetched")]
    Url,
    /// Nobody can be reached there.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The conversation broke.
    #[error("the answer can't be read: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is no.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The answer is too long, or breaks off.
    #[error("the answer is longer than {MAX_BYTES} bytes, or breaks off")]
    Body,
    /// It took too long.
    #[error("no answer within {LIMIT:?}")]
    Late,
}

/// Fetches what is at `url`.
pub async fn get(url: &str) -> Result<Bytes, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
    timeout(LIMIT, converse(&uri)).await.map_err(|_| FetchError::Late)?
}

async fn converse(uri: &Uri) -> Result<Bytes, FetchError> {
    let host = uri.host().ok_or(FetchError::Url)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((name, port)).await?;
    if !is_tls {
        return ask(uri, host, stream).await;
    }
    let name = ServerName::try_from(name.to_owned()).map_err(|_| FetchError::Url)?;
    ask(uri, host, TlsConnector::from(client_config()?).connect(name, stream).await?).await
}

async fn ask<S>(uri: &Uri, host: &str, stream: S) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request =
        Request::get(path).header(HOST, authority).header(ACCEPT, "application/json").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(|_| FetchError::Url)?).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(|_| FetchError::Body)?;
    Ok(body.to_bytes())
}

/// Trusts the authorities that this system trusts; SSL_CERT_FILE names others.
fn client_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}
