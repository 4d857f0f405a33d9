//! A server, as a command reaches it.

use std::sync::Arc;

use http::Uri;
use tokio_rustls::rustls::ClientConfig;

/// A server, and how to reach it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its URL, of http or https.
    pub url: Uri,
    /// For https.
    pub tls: Option<Arc<ClientConfig>>,
    /// The setting that has its address, if no flag has.
    pub setting: Option<&'static str>,
}

impl Server {
    /// Its host and port.
    pub fn address(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    /// Its host without the brackets of IPv6, and its port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let default = if self.tls.is_some() { 443 } else { 80 };
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        (host, self.url.port_u16().unwrap_or(default))
    }
}
