//! How each attack ends, seen from the attacker's side.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tonic::{Code, Status};

use super::arsenal::{Attack, Pace, Target};
use crate::support::{
    RawClient, TestServer, assert_refused, eventually,
    http2::RawConnection,
    http2_frames::{self, PREFACE, SETTINGS, frame},
    process::TempFolder,
    soon,
};

const GET_EVENT: &str = "/reservd.v1.EventService/GetEvent";
/// `GetEventRequest` for the event `e`.
const ASKED: [u8; 3] = [0x0a, 1, b'e'];

/// `WatchChangesRequest` for the event `e`.
const WATCHED: [u8; 5] = [0x0a, 3, 0x0a, 1, b'e'];

/// A connection whose streams accept no answer.
async fn connect_without_a_window(server: &TestServer) -> RawConnection {
    let mut connection = RawConnection::open(server).await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    connection.send(&[PREFACE, &no_window].concat()).await;
    connection
}

#[tokio::test]
async fn a_missing_message_takes_no_place_and_times_out() {
    let server = TestServer::with(&[("server.message_timeout", "200ms"), ("server.max_in_flight", "2")]).await;
    server.event("e", 1).await;
    let client = RawClient::connect(&server).await;
    let mut begun = Vec::new();
    for _ in 0..20 {
        begun.push(client.begin_without_end("Reserve", &[0, 0, 0]).await);
    }
    server.get_event("e").await;
    for call in begun {
        let status = soon("it is ended", call.status()).await;
        assert_refused(Err::<(), Status>(status), Code::DeadlineExceeded, "MESSAGE_LATE");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unread_answer_takes_no_place_and_ends_its_connection_in_the_end() {
    let server = TestServer::with(&[("server.response_timeout", "500ms"), ("server.max_in_flight", "2")]).await;
    server.event("e", 1).await;
    let mut connection = connect_without_a_window(&server).await;
    for stream in (1..20).step_by(2) {
        connection
            .send(&[http2_frames::call(stream, GET_EVENT), http2_frames::message(stream, false, &ASKED)].concat())
            .await;
        let answered = "reservd_rpcs_in_flight";
        eventually("it is answered", async || server.metric(answered).await >= f64::from(stream / 2 + 1)).await;
        server.get_event("e").await;
    }
    connection.closed().await;
    assert_eq!(server.metric("reservd_connections_closed_total{why=\"too_slow\"}").await, 1.0);
    server.get_event("e").await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unread_watch_ends_with_its_connection() {
    let server = TestServer::with(&[("server.response_timeout", "500ms")]).await;
    server.event("e", 1).await;
    let (_watcher, _) = server.watch("e").await;
    let mut connection = connect_without_a_window(&server).await;
    let path = "/reservd.v1.FeedService/WatchChanges";
    connection.send(&[http2_frames::call(1, path), http2_frames::message(1, false, &WATCHED)].concat()).await;
    eventually("both watch", async || server.metric("reservd_watches").await == 2.0).await;
    connection.closed().await;
    eventually("the one that reads goes on", async || server.metric("reservd_watches").await == 1.0).await;
    drop(_watcher);
    server.check_and_stop().await;
}

#[tokio::test]
async fn idle_reflection_ends() {
    let server = TestServer::with(&[("server.max_deadline", "10s"), ("server.default_deadline", "1s")]).await;
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut streams = Vec::new();
    for _ in 0..8 {
        let answers = reflection.server_reflection_info(tokio_stream::pending()).await;
        streams.push(answers.expect("there is room").into_inner());
    }
    let one_more = reflection.server_reflection_info(tokio_stream::pending()).await;
    assert_refused(one_more.map(drop), Code::ResourceExhausted, "OVERLOADED");
    // Their number affects no other caller.
    server.event("e", 1).await;
    let ended = soon("it is ended", streams[0].message()).await;
    assert_refused(ended, Code::DeadlineExceeded, "DEADLINE");
    server.check_and_stop().await;
}

/// A server with TLS, and a client's side of it.
async fn with_tls(settings: &[(&str, &str)]) -> (TestServer, TlsConnector, TempFolder) {
    let folder = TempFolder::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let (certificate, key) =
        (folder.file("certificate.pem", made.cert.pem()), folder.file("key.pem", made.signing_key.serialize_pem()));
    let mut all = vec![("tls.certificate", certificate.as_str()), ("tls.key", key.as_str())];
    all.extend(settings);
    let plain = TestServer::start().await;
    let server = plain.twin_with(&all).await;
    plain.app.stop().await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (server, TlsConnector::from(Arc::new(config)), folder)
}

/// More handshakes than places for them, and each as slow as the limit allows.
#[tokio::test]
async fn stalled_handshakes_make_room_for_one_that_completes() {
    let (server, connector, _folder) = with_tls(&[("server.handshake_timeout", "10min")]).await;
    let target = Target { address: server.app.address, event_id: "none".into() };
    let attacker = Attack::SlowHandshakes.run(&target, Pace::new(30, Duration::ZERO)).await;
    for _ in 0..5 {
        eventually("a handshake succeeds", async || is_greeted(&server, &connector).await).await;
    }
    assert!(server.metric("reservd_connections_refused_total{why=\"too_many_handshakes\"}").await > 0.0);
    drop(attacker);
    server.app.stop().await;
}

/// Whether a handshake succeeds, and HTTP/2 after it.
async fn is_greeted(server: &TestServer, connector: &TlsConnector) -> bool {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(server.app.address).await.expect("it listens");
    let Ok(mut stream) = connector.connect(name, stream).await else { return false };
    let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&greeting).await.is_ok() && stream.read(&mut [0; 9]).await.is_ok_and(|read| read > 0)
}
