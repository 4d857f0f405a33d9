//! A crowd that watches an event while others reserve: on a thread of its own, reading as fast as
//! messages come, and decoding nothing.

use std::{net::SocketAddr, thread::JoinHandle};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, header::CONTENT_TYPE};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use crate::{
    Failure,
    pb::{WatchChangesRequest, WatchedEvent, feed_service_server::SERVICE_NAME},
    wire,
};

/// Watches that share a connection.
const WATCHES_PER_CONNECTION: u32 = 100;

/// Watchers at work, until this is dropped.
pub struct Watchers {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchers {
    /// Returns once each of them has received the event's present state.
    pub async fn start(server: SocketAddr, event_id: String, count: u32) -> Result<Self, Failure> {
        let (stop, stopped) = oneshot::channel();
        let (tell, mut told) = mpsc::channel(1);
        let work = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            LocalSet::new().block_on(&runtime, async move {
                tokio::select! {
                    _ = stopped => {}
                    () = watch(server, event_id, count, tell) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("watchers".into()).spawn(work)?;
        for _ in 0..count {
            told.recv().await.ok_or("the watchers ended early")?;
        }
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn watch(server: SocketAddr, event_id: String, count: u32, tell: mpsc::Sender<()>) {
    let request = framed(&WatchChangesRequest { events: vec![WatchedEvent { event_id, after_version: None }] });
    let mut watches = Vec::new();
    let mut connection = None;
    for number in 0..count {
        if number.is_multiple_of(WATCHES_PER_CONNECTION) {
            connection = wire::connect(server).await.ok();
        }
        let Some(connection) = connection.clone() else { return };
        watches.push(tokio::task::spawn_local(read(connection, server, request.clone(), tell.clone())));
    }
    for watch in watches {
        let _ = watch.await;
    }
}

/// Reads one watch to its end. One that the server ends as too slow is not begun again.
async fn read(
    connection: SendRequest<Bytes>,
    server: SocketAddr,
    request: Bytes,
    tell: mpsc::Sender<()>,
) -> Result<(), h2::Error> {
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = format!("http://{server}/{SERVICE_NAME}/WatchChanges").parse().unwrap_or_default();
    head.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
    let (response, mut stream) = connection.ready().await?.send_request(head, false)?;
    stream.send_data(request, true)?;
    let mut body = response.await?.into_body();
    let mut tell = Some(tell);
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
        if let Some(tell) = tell.take() {
            // Where the benchmark was interrupted, the receiver is gone.
            let _ = tell.send(()).await;
        }
    }
    Ok(())
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}
