//! A raw HTTP/2 connection, to read the frames of the server.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{TestServer, soon};

pub use super::http2_frames::{DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, call, frame};

/// The kind of the frame that closes a connection.
pub const GOAWAY: u8 = 0x7;

/// A received frame.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A raw HTTP/2 connection.
pub struct RawConnection {
    stream: TcpStream,
}

impl RawConnection {
    /// A connection without a preface.
    pub async fn open(server: &TestServer) -> Self {
        Self { stream: TcpStream::connect(server.app.address).await.expect("the server listens") }
    }

    /// A connection after the preface.
    pub async fn begin(server: &TestServer) -> Self {
        let mut connection = Self::open(server).await;
        connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        connection
    }

    /// Sends bytes. The server may already have closed the connection.
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

    /// Waits until the server closes the connection, and returns the frames until then.
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
