//! HTTP/2 frames by hand: what no well-behaved client sends.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{TestServer, soon};

/// What every connection begins with, and an empty SETTINGS frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames.
pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const GOAWAY: u8 = 0x7;

/// The flag of a stream's last frame.
pub const END_STREAM: u8 = 0x1;

/// A frame as it was received.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection below HTTP/2.
pub struct RawConnection {
    stream: TcpStream,
}

impl RawConnection {
    /// A connection on which nothing has been said.
    pub async fn open(server: &TestServer) -> Self {
        Self { stream: TcpStream::connect(server.app.address).await.expect("the server listens") }
    }

    /// A connection that has begun to speak HTTP/2.
    pub async fn begin(server: &TestServer) -> Self {
        let mut connection = Self::open(server).await;
        connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        connection
    }

    /// Sends bytes; that the server has closed the connection meanwhile is no mistake.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next frame; none once the server has closed the connection.
    pub async fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload })
    }

    /// Waits until the server closes the connection, and returns what it said until then.
    pub async fn closed(mut self) -> Vec<Frame> {
        soon("the server closes the connection", async {
            let mut frames = Vec::new();
            while let Some(frame) = self.receive().await {
                frames.push(frame);
            }
            frames
        })
        .await
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The HEADERS frame of a call to `path` whose message is still to come. HPACK without compression.
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    const END_HEADERS: u8 = 0x4;
    let literal = |index: &[u8], value: &str| {
        let length = u8::try_from(value.len()).expect("a short value");
        [index, &[length], value.as_bytes()].concat()
    };
    // The static table has `:method: POST` at 3, `:scheme: http` at 6, `:path` at 4, `content-type` at 31.
    let block = [vec![0x83, 0x86], literal(&[0x04], path), literal(&[0x0f, 0x10], "application/grpc")].concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}
