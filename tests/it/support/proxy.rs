//! A proxy that a test can cut, or make drop the data from the server.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Clone, Copy, Debug)]
struct State {
    /// New connections are forwarded.
    is_open: bool,
    /// Data from the server is dropped.
    is_muted: bool,
    /// The number of cuts. Each ends all earlier connections.
    cuts: u32,
}

/// Forwards connections while it is open.
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, watched) = watch::channel(State { is_open: true, is_muted: false, cuts: 0 });
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, watched) = (server.clone(), watched.clone());
                tokio::spawn(async move { forward(client, &server, watched).await });
            }
        });
        Self { address, state }
    }

    /// Drops the data from the server from now on.
    pub fn mute(&self) {
        self.state.send_modify(|state| state.is_muted = true);
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        self.state.send_modify(|state| *state = State { is_open: false, is_muted: false, cuts: state.cuts + 1 });
    }

    /// Forwards new connections again.
    pub fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }
}

async fn forward(client: TcpStream, server: &str, state: watch::Receiver<State>) {
    let begun = *state.borrow();
    if !begun.is_open {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let mut cut = state.clone();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        _ = cut.wait_for(|state| state.cuts > begun.cuts) => {}
        () = copy(from_client, to_server, |_| true, &state) => {}
        () = copy(from_server, to_client, |state| !state.is_muted, &state) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passes: fn(State) -> bool,
    state: &watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let passes = passes(*state.borrow());
        if passes && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
