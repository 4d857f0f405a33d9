//! Calls below gRPC: any metadata, any framing.

use std::fmt;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use prost_reflect::MethodDescriptor;
use tokio::net::TcpStream;

use super::messages::Values;
use crate::support::{TestServer, issuer::Issuer, soon};

/// One call.
pub struct Call {
    pub method: MethodDescriptor,
    pub headers: Vec<(&'static str, HeaderValue)>,
    pub body: Vec<u8>,
    /// The token for the server with authentication; none: the call goes to the server without.
    pub token: Option<HeaderValue>,
    /// Whether the call is a gRPC call at all.
    pub is_grpc: bool,
    /// Whether it sets a deadline.
    pub has_timeout: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.body.escape_ascii().take(2000).map(char::from).collect();
        write!(f, "{} {:?} token: {:?} {body}", self.method.full_name(), self.headers, self.token.is_some())
    }
}

/// The answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub http: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// The error, if there is no answer.
    pub broken: Option<String>,
}

impl Answer {
    /// The status, in headers or trailers.
    pub fn status(&self) -> Option<tonic::Status> {
        tonic::Status::from_header_map(&self.headers).or_else(|| tonic::Status::from_header_map(&self.trailers))
    }

    /// The token of the next page, if there is one.
    pub fn page_token(&self, call: &Call) -> Option<String> {
        let message = prost_reflect::DynamicMessage::decode(call.method.output(), self.body.get(5..)?).ok()?;
        let token = message.get_field_by_name("next_page_token")?.as_str()?.to_owned();
        (!token.is_empty()).then_some(token)
    }
}

impl Call {
    pub fn make(method: MethodDescriptor, mut values: Values, issuer: &Issuer) -> Self {
        let message = values.message(&method.input());
        let bytes = values.bytes(&message);
        // Without tokens no caller has a session.
        let has_token = method.parent_service().name() == "SessionService" || values.one_in(6);
        let mut call = Self {
            headers: vec![("te", HeaderValue::from_static("trailers"))],
            body: framed(0, bytes.len(), &bytes),
            token: has_token.then(|| token(&mut values, issuer)),
            is_grpc: true,
            // Nothing else would end the call.
            has_timeout: method.is_server_streaming(),
            method,
        };
        if values.one_in(12) {
            call.body = misframed(&mut values, &bytes);
        }
        let mut content_type = "application/grpc";
        match values.random.u8(..40) {
            0 => call.is_grpc = false,
            1 => content_type = values.pick(&["application/grpc+proto", "application/grpc;x=\"", "text/plain", ""]),
            2 => call.add("grpc-encoding", values.pick(&["gzip", "br", "", "identity", "gzip,gzip"])),
            3 => call.add("grpc-accept-encoding", values.pick(&["gzip", "zstd,,gzip", "\u{7f}"])),
            4 => call.add(
                "traceparent",
                values.pick(&["00-0-0-0", "", "ff-00000000000000000000000000000000-0000000000000000-01"]),
            ),
            5 => call.add("x-any-bin", values.pick(&["%%%", "AAAA", ","])),
            6 => {
                call.add("grpc-timeout", values.pick(&["", "1", "99999999999S", "-1S", "0n", "1H", "5m", "99999999H"]))
            }
            7 => call.add("grpc-timeout", "1u"),
            8 => call.add("user-agent", values.pick(&["", "\u{ff}", "'; DROP TABLE events"])),
            _ => {}
        }
        call.has_timeout |= call.headers.iter().any(|(name, _)| *name == "grpc-timeout");
        if call.method.is_server_streaming() {
            call.headers.retain(|(name, _)| *name != "grpc-timeout");
            call.add("grpc-timeout", "100m");
        }
        if call.is_grpc {
            call.add("content-type", content_type);
        }
        call
    }

    fn add(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.push((name, value));
        }
    }
}

fn framed(flag: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    [&[flag], &u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()[..], bytes].concat()
}

fn misframed(values: &mut Values, bytes: &[u8]) -> Vec<u8> {
    match values.random.u8(..8) {
        0 => Vec::new(),
        1 => framed(0, bytes.len(), bytes)[..values.random.usize(..5)].to_vec(),
        2 => framed(values.pick(&[1, 2, 255]), bytes.len(), bytes),
        3 => framed(0, bytes.len() + 1, bytes),
        4 => framed(0, bytes.len().saturating_sub(1), bytes),
        5 => framed(0, values.pick(&[1 << 20, (1 << 20) + 1, u32::MAX as usize]), bytes),
        6 => framed(0, bytes.len(), bytes).repeat(2),
        _ => [framed(0, bytes.len(), bytes), vec![0; 3]].concat(),
    }
}

fn token(values: &mut Values, issuer: &Issuer) -> HeaderValue {
    let roles = values.pick(&[&["user"][..], &["admin"], &["service", "reader"], &[], &["event.manager"]]);
    let good = issuer.token(&format!("user-{}", values.random.u8(..20)), roles);
    let mut text = format!("Bearer {good}").into_bytes();
    match values.random.u8(..8) {
        0 => text.truncate(values.random.usize(..text.len())),
        1 => {
            let place = values.random.usize(..text.len());
            text[place] = values.pick(b"A.~ =\xff");
        }
        // Not so long that HTTP/2 itself would end the connection.
        2 => text = values.hostile_text().into_bytes().into_iter().take(8000).collect(),
        3 => text.extend([b'A'; 9000]),
        _ => {}
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// A connection, which is opened again after it breaks.
pub struct Connection {
    address: std::net::SocketAddr,
    sender: SendRequest<Bytes>,
}

impl Connection {
    pub async fn open(server: &TestServer) -> Self {
        Self { address: server.app.address, sender: Self::connect(server.app.address).await }
    }

    async fn connect(address: std::net::SocketAddr) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 24)
            .initial_connection_window_size(1 << 24)
            .handshake(stream)
            .await
            .expect("it speaks HTTP/2");
        tokio::spawn(connection);
        sender
    }

    /// Sends a call, and reads its answer to the end.
    pub async fn send(&mut self, call: &Call) -> Answer {
        let mut answer = Answer::default();
        if let Err(error) = soon("it is answered", self.exchange(call, &mut answer)).await {
            answer.broken = Some(error.to_string());
            self.sender = Self::connect(self.address).await;
        }
        answer
    }

    async fn exchange(&mut self, call: &Call, answer: &mut Answer) -> Result<(), h2::Error> {
        let service = call.method.parent_service().full_name().to_owned();
        let mut request = Request::new(());
        *request.method_mut() = if call.is_grpc { Method::POST } else { Method::GET };
        *request.uri_mut() =
            format!("http://{}/{service}/{}", self.address, call.method.name()).parse().expect("a URI");
        for (name, value) in &call.headers {
            request.headers_mut().append(HeaderName::from_static(name), value.clone());
        }
        if let Some(token) = &call.token {
            request.headers_mut().append("authorization", token.clone());
        }
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        // A call that is refused by its headers is not read to the end.
        let _ = stream.send_data(Bytes::from(call.body.clone()), true);
        let (head, mut body) = response.await?.into_parts();
        (answer.http, answer.headers) = (head.status.as_u16(), head.headers);
        // A health watch does not end by itself.
        let is_endless = call.method.full_name() == "grpc.health.v1.Health.Watch";
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.body.extend_from_slice(&chunk);
            if is_endless {
                stream.send_reset(h2::Reason::CANCEL);
                answer.trailers.insert("grpc-status", HeaderValue::from_static("0"));
                return Ok(());
            }
        }
        answer.trailers = body.trailers().await?.unwrap_or_default();
        Ok(())
    }
}
