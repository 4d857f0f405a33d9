//! A GET of one small document over HTTPS, which is all that fetching keys needs. No redirects, proxies or cookies;
//! bounded in size and time.

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

/// The time for a GET.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any key set.
const MAX_BYTES: usize = 256 * 1024;

/// Why there is no document. It never prints the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL can't be used.
    #[error("the URL can't be fetched")]
    Url,
    /// The connection failed.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The response is not HTTP.
    #[error("the response can't be read: {0}")]
    Http(#[from] hyper::Error),
    /// The status is not 200.
    #[error("the response is {0}")]
    Status(StatusCode),
    /// The body is too long or truncated.
    #[error("the response is longer than {MAX_BYTES} bytes, or truncated")]
    Body,
    /// The time is over.
    #[error("no response within {TIMEOUT:?}")]
    Timeout,
}

/// Fetches the document at `url`.
pub async fn get(url: &str) -> Result<Bytes, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
    timeout(TIMEOUT, fetch(&uri)).await.map_err(|_| FetchError::Timeout)?
}

async fn fetch(uri: &Uri) -> Result<Bytes, FetchError> {
    let host = uri.host().ok_or(FetchError::Url)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((name, port)).await?;
    if !is_tls {
        return request(uri, host, stream).await;
    }
    let name = ServerName::try_from(name.to_owned()).map_err(|_| FetchError::Url)?;
    request(uri, host, TlsConnector::from(client_config()?).connect(name, stream).await?).await
}

async fn request<S>(uri: &Uri, host: &str, stream: S) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the sender.
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

/// Trusts the authorities of the system; SSL_CERT_FILE names others.
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
