//! A proxy before PostgreSQL that a test can cut, silence, close, or lead to another database, as a failover does.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, UnixStream, tcp::OwnedWriteHalf, unix::OwnedReadHalf},
    select,
    task::JoinSet,
};

use super::TestDatabase;

/// Forwards the traffic between reservd and PostgreSQL.
pub struct PgProxy {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The database of new connections, whatever database they ask for.
    database: String,
    /// Whether PostgreSQL's answers are dropped: shared by the connections made since the last change.
    is_silent: Arc<AtomicBool>,
    connections: JoinSet<io::Result<()>>,
    /// While it is closed: how many connections it has refused.
    refused: Option<usize>,
}

impl PgProxy {
    pub async fn to(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (options, name) = (&database.options, name(database));
        let folder = options.get_socket().expect("PostgreSQL of the tests listens on a socket");
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let url = format!("postgresql://{}@127.0.0.1:{port}/{name}?sslmode=disable", options.get_username());
        let state = State { database: name, is_silent: Arc::default(), connections: JoinSet::new(), refused: None };
        let state = Arc::new(Mutex::new(state));
        tokio::spawn(accept(listener, socket, Arc::clone(&state)));
        Self { url, state }
    }

    /// The URL for a service that connects through this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads new connections to this database. Existing connections keep theirs.
    pub fn lead_to(&self, database: &TestDatabase) {
        lock(&self.state).database = name(database);
    }

    /// Drops PostgreSQL's answers from now on, on the existing connections.
    pub fn silence(&self) {
        std::mem::take(&mut lock(&self.state).is_silent).store(true, Ordering::SeqCst);
    }

    /// Refuses new connections from now on.
    pub fn close(&self) {
        lock(&self.state).refused = Some(0);
    }

    /// How many connections it has refused since it was closed.
    pub fn refused(&self) -> usize {
        lock(&self.state).refused.unwrap_or(0)
    }

    /// Takes connections again.
    pub fn open(&self) {
        lock(&self.state).refused = None;
    }

    /// Ends the existing connections, and returns when they have ended.
    pub async fn cut(&self) {
        let mut connections = std::mem::take(&mut lock(&self.state).connections);
        connections.shutdown().await;
    }
}

fn name(database: &TestDatabase) -> String {
    database.options.get_database().expect("it has a name").to_owned()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, socket: PathBuf, state: Arc<Mutex<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut state = lock(&state);
        if let Some(refused) = &mut state.refused {
            *refused += 1;
            continue;
        }
        let (database, is_silent) = (state.database.clone(), Arc::clone(&state.is_silent));
        state.connections.spawn(pass_on(client, socket.clone(), database, is_silent));
    }
}

async fn pass_on(
    mut client: TcpStream,
    socket: PathBuf,
    database: String,
    is_silent: Arc<AtomicBool>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = UnixStream::connect(socket).await?;
    // The startup message: its length, then a version and pairs of texts, each ended by a zero, and a zero.
    let mut startup = vec![0; client.read_u32().await? as usize - 4];
    client.read_exact(&mut startup).await?;
    // If a name occurs twice, PostgreSQL takes the later value.
    startup.pop();
    startup.extend_from_slice(format!("database\0{database}\0\0").as_bytes());
    server.write_u32(startup.len() as u32 + 4).await?;
    server.write_all(&startup).await?;

    let ((mut from_client, to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    select! {
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
        ended = pass_answers_on(from_server, to_client, &is_silent) => ended,
    }
}

async fn pass_answers_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_silent: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if !is_silent.load(Ordering::SeqCst) {
            to.write_all(&buffer[..read]).await?;
        }
    }
}
