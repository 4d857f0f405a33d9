//! What answers at an address where gRPC fails.

use std::{error::Error, time::Duration};

use http::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::telemetry::chain;

/// The time to connect, and the time for the first bytes.
const PATIENCE: Duration = Duration::from_secs(3);
/// How an HTTP/2 client begins: the preface and empty SETTINGS. A server of anything else objects to it.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

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

/// Why calls to a server fail, in one line.
pub async fn diagnose(server: &Uri, error: &(dyn Error + Send + Sync)) -> String {
    let Ok(first) = first_bytes(server, GREETING).await else {
        return format!("no server responds at {}", server.to_string().trim_end_matches('/'));
    };
    let found = match protocol(&first) {
        // A server of HTTP/1 may close a connection that begins with HTTP/2.
        Protocol::Silent => first_bytes(server, OLD_GREETING).await.map_or(Protocol::Silent, |first| protocol(&first)),
        found => found,
    };
    describe(server, found, &chain(error))
}

fn describe(server: &Uri, found: Protocol, error: &str) -> String {
    let address = server.authority().map_or("", |authority| authority.as_str());
    let is_https = server.scheme_str() == Some("https");
    match found {
        Protocol::Tls if is_https => format!("TLS with {address} fails: {error}"),
        Protocol::Tls => format!("{address} expects TLS: use https://{address}"),
        Protocol::Http2 if is_https => format!("{address} does not use TLS: use http://{address}"),
        Protocol::Http2 => format!("the connection to {address} failed: {error}"),
        Protocol::Http1 => {
            format!("{address} is an HTTP/1 server, not a gRPC server; use the address of server.listen")
        }
        Protocol::Other => format!("{address} is not a gRPC server"),
        Protocol::Silent if is_https => format!("{address} does not answer TLS: {error}"),
        Protocol::Silent => format!("{address} does not answer HTTP/2; if it expects TLS, use https://{address}"),
    }
}

async fn first_bytes(server: &Uri, greeting: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let default = if server.scheme_str() == Some("https") { 443 } else { 80 };
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let connecting = TcpStream::connect((host, server.port_u16().unwrap_or(default)));
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
