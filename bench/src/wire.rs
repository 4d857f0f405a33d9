//! gRPC calls at as little cost as possible, since the load generator shares the cores with what it
//! measures. It speaks HTTP/2 itself, writes requests into buffers that it keeps, and of an answer reads
//! only the execution report.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

use crate::{Failure, pb::reservation_service_server::SERVICE_NAME};

/// Room for answers that were sent and not yet read.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A flag and a length stand before each message.
const PREFIX_BYTES: usize = 5;
/// Requests are cut from buffers of this size.
const BUFFER_BYTES: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// The server says no.
    Refused(Box<Status>),
    /// The connection is of no more use.
    Broken(String),
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Broken(format!("the connection to the server broke: {error}"))
    }
}

/// What is read of the answer to a mutation, the same field for all of them. The reservation is skipped.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Answer {
    /// How it was carried out.
    #[prost(message, optional, tag = "2")]
    pub execution: Option<Execution>,
}

/// What is read of `ExecutionReport`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Execution {
    /// How often it was tried.
    #[prost(int32, tag = "2")]
    pub attempts: i32,
    /// How many were committed together.
    #[prost(int32, tag = "6")]
    pub batch_size: i32,
}

/// One RPC of the reservation service, at one server.
#[derive(Clone, Debug)]
pub struct Rpc(Uri);

impl Rpc {
    /// The RPC of this name.
    pub fn new(server: SocketAddr, name: &str) -> Result<Self, Failure> {
        Ok(Self(format!("http://{server}/{SERVICE_NAME}/{name}").parse()?))
    }
}

/// Opens a connection. It works in a task of its own, on the thread that calls this.
pub async fn connect(server: SocketAddr) -> Result<SendRequest<Bytes>, Failure> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .handshake(stream)
        .await?;
    // Callers learn from their calls when it ends.
    tokio::task::spawn_local(connection);
    Ok(send)
}

/// One caller's side of a connection that others use too.
pub struct Caller {
    send: SendRequest<Bytes>,
    headers: HeaderMap,
    buffer: BytesMut,
}

impl Caller {
    /// A caller on this connection, who shows this with each call.
    pub fn new(send: SendRequest<Bytes>, bearer: Option<HeaderValue>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        if let Some(bearer) = bearer {
            headers.insert(AUTHORIZATION, bearer);
        }
        Self { send, headers, buffer: BytesMut::with_capacity(BUFFER_BYTES) }
    }

    /// Asks, and waits for the answer.
    pub async fn call(&mut self, rpc: &Rpc, message: &impl Message) -> Result<Answer, CallError> {
        let body = self.frame(message);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&rpc.0);
        request.headers_mut().clone_from(&self.headers);

        // Ready once the server allows one stream more.
        std::future::poll_fn(|context| self.send.poll_ready(context)).await?;
        let (response, mut stream) = self.send.send_request(request, false)?;
        stream.send_data(body, true)?;
        let (head, mut body) = response.await?.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers) {
            return Err(CallError::Refused(Box::new(status)));
        }
        let mut message = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            message = if message.is_empty() { chunk } else { [message, chunk].concat().into() };
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        match Status::from_header_map(&trailers) {
            Some(status) if status.code() == tonic::Code::Ok => decode(message),
            Some(status) => Err(CallError::Refused(Box::new(status))),
            None => Err(CallError::Broken("an answer ended without a status".into())),
        }
    }

    fn frame(&mut self, message: &impl Message) -> Bytes {
        let length = message.encoded_len();
        self.buffer.reserve(PREFIX_BYTES + length);
        self.buffer.put_u8(0);
        self.buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut self.buffer);
        self.buffer.split().freeze()
    }
}

fn decode(message: Bytes) -> Result<Answer, CallError> {
    let payload = message.get(PREFIX_BYTES..).unwrap_or_default();
    Answer::decode(payload).map_err(|error| CallError::Broken(format!("an answer can't be read: {error}")))
}
