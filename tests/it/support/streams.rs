//! A raw client: without a deadline of its own, and with explicit resets of streams.

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    Reason, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

use super::TestServer;

/// One HTTP/2 connection.
pub struct RawClient {
    sender: SendRequest<Bytes>,
    address: String,
}

/// A call in flight.
pub struct RawCall {
    stream: SendStream<Bytes>,
    response: ResponseFuture,
}

impl RawClient {
    pub async fn connect(server: &TestServer) -> Self {
        let socket = TcpStream::connect(server.app.address).await.expect("a connection to the server");
        let (sender, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self { sender, address: server.app.address.to_string() }
    }

    /// Starts a call of `ReservationService`.
    pub async fn begin(&self, rpc: &str, message: &impl Message, grpc_timeout: &str) -> RawCall {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).expect("short"));
        message.encode(&mut frame).expect("there is room");
        self.send(rpc, frame.freeze(), true, grpc_timeout).await
    }

    /// Starts a call of `ReservationService` with an incomplete message.
    pub async fn begin_without_end(&self, rpc: &str, part: &'static [u8]) -> RawCall {
        self.send(rpc, Bytes::from_static(part), false, "60S").await
    }

    async fn send(&self, rpc: &str, body: Bytes, is_whole: bool, grpc_timeout: &str) -> RawCall {
        let request = Request::post(format!("http://{}/reservd.v1.ReservationService/{rpc}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", grpc_timeout)
            .body(())
            .expect("a request");
        let mut sender = self.sender.clone().ready().await.expect("a stream is free");
        let (response, mut stream) = sender.send_request(request, false).expect("it can be sent");
        stream.send_data(body, is_whole).expect("it can be sent");
        RawCall { stream, response }
    }
}

impl RawCall {
    /// The status that the call ends with.
    pub async fn status(self) -> Status {
        let response = self.response.await.expect("the server responds");
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let read = data.expect("a readable response").len();
            body.flow_control().release_capacity(read).expect("it was read");
        }
        let trailers: HeaderMap = body.trailers().await.expect("the response ends").unwrap_or_default();
        Status::from_header_map(&trailers).expect("with a status")
    }

    /// Resets the stream, as a client does that cancels a call.
    pub fn reset(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}
