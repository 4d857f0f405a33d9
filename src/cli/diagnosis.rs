//! What answers at an address where gRPC fails.

use std::{error::Error, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Status;

use super::{server::Server, tls::HandshakeError};
use crate::telemetry::chain;

/// The time to connect, and the time for the first bytes.
const PATIENCE: Duration = Duration::from_secs(3);
/// How an HTTP/2 client begins: the preface and empty SETTINGS. A server of anything else objects to it.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const CERTIFICATE_ADVICE: &str = "it asks for a client certificate; give it with --certificate FILE and --key FILE";

/// How an HTTP/1 client begins.
const OLD_GREETING: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A protocol, by the first bytes of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http2,
    Http1,
    Tls,
    Other,
    /// It closes the connection, or says nothing.
    Silent,
}

/// Why calls to a server fail, in one line: UNIMPLEMENTED if none can have reached a gRPC server there, or else
/// UNAVAILABLE.
pub async fn diagnose(server: &Server, error: &(dyn Error + Send + Sync + 'static)) -> Status {
    let Ok(first) = first_bytes(server, GREETING).await else { return Status::unavailable(no_response(server)) };
    let found = match protocol(&first) {
        // A server of HTTP/1 may close a connection that begins with HTTP/2.
        Protocol::Silent => first_bytes(server, OLD_GREETING).await.map_or(Protocol::Silent, |first| protocol(&first)),
        found => found,
    };
    let is_https = server.tls.is_some();
    let has_certificate = server.tls.as_ref().is_none_or(|tls| tls.client_auth_cert_resolver.has_certs());
    let cause = Cause::of(error, has_certificate);
    let line = describe(server.address(), is_https, found, &cause);
    match found {
        Protocol::Http2 if !is_https => Status::unavailable(line),
        // A server that hangs.
        Protocol::Silent => Status::unavailable(line),
        Protocol::Tls if is_https && matches!(cause, Cause::Lost(_)) => Status::unavailable(line),
        _ => Status::unimplemented(line),
    }
}

fn no_response(server: &Server) -> String {
    let url = server.url.to_string();
    let url = url.trim_end_matches('/');
    match server.setting {
        Some(setting) => format!("no server responds at {url} ({setting}); --server URL names another"),
        None => format!("no server responds at {url}; is it running, and is --server right?"),
    }
}

/// What ended a connection.
enum Cause {
    /// The handshake of TLS.
    Handshake(String),
    /// Something else, with the chain of its causes.
    Lost(String),
}

impl Cause {
    fn of(error: &(dyn Error + 'static), has_certificate: bool) -> Self {
        let mut link = Some(error);
        while let Some(error) = link {
            if let Some(handshake) = error.downcast_ref::<HandshakeError>() {
                return Self::Handshake(handshake.to_string());
            }
            link = error.source();
        }
        let text = chain(error);
        // The server's alert comes after a handshake that has succeeded for its client.
        if text.contains("CertificateRequired") {
            return Self::Handshake(CERTIFICATE_ADVICE.to_owned());
        }
        // A client that writes at that moment finds the connection closed, and never reads the alert.
        if !has_certificate {
            return Self::Lost(format!("{text}; perhaps {CERTIFICATE_ADVICE}"));
        }
        Self::Lost(text)
    }
}

fn describe(address: &str, is_https: bool, found: Protocol, cause: &Cause) -> String {
    let (Cause::Handshake(text) | Cause::Lost(text)) = cause;
    match found {
        Protocol::Tls if is_https && matches!(cause, Cause::Handshake(_)) => {
            format!("TLS with {address} fails: {text}")
        }
        Protocol::Tls if is_https => format!("the connection to {address} failed: {text}"),
        Protocol::Tls => format!("{address} expects TLS; use --server https://{address}"),
        Protocol::Http2 if is_https => format!("{address} does not use TLS; use --server http://{address}"),
        Protocol::Http2 => format!("the connection to {address} failed: {text}"),
        Protocol::Http1 => {
            format!(
                "{address} is an HTTP/1 server, not a gRPC server; give the address of server.listen with --server URL"
            )
        }
        Protocol::Other => {
            format!("{address} is not a gRPC server; give the address of server.listen with --server URL")
        }
        Protocol::Silent if is_https => format!("{address} does not answer TLS: {text}"),
        Protocol::Silent => {
            format!("{address} does not answer HTTP/2; if it expects TLS, use --server https://{address}")
        }
    }
}

async fn first_bytes(server: &Server, greeting: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let connecting = TcpStream::connect(server.host_and_port());
    let mut connection = timeout(PATIENCE, connecting).await??;
    let mut first = [0; 16];
    let exchange = async {
        connection.write_all(greeting).await?;
        connection.read(&mut first).await
    };
    let length = timeout(PATIENCE, exchange).await.map_or(0, |read| read.unwrap_or(0));
    Ok(first[..length].to_vec())
}

fn protocol(first: &[u8]) -> Protocol {
    match first {
        [] => Protocol::Silent,
        [b'H', b'T', b'T', b'P', b'/', ..] => Protocol::Http1,
        // An alert or a handshake.
        [0x15 | 0x16, 3, ..] => Protocol::Tls,
        // SETTINGS, of stream 0.
        [_, _, _, 4, _, 0, 0, 0, 0, ..] => Protocol::Http2,
        _ => Protocol::Other,
    }
}

#[cfg(test)]
mod tests;
