//! The time of a client certificate: how it ends, and what ends with it.

use std::sync::Arc;

use reservd::{
    auth::clock,
    rpc::pb::{self, feed_service_client::FeedServiceClient, reservation_service_client::ReservationServiceClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        pki_types::ServerName,
        version::{TLS12, TLS13},
    },
};
use tonic::{Code, Streaming, transport::Channel};

use super::tls::{Authority, Secured, client_side, is_kept_out};
use crate::support::{
    Client, assert_refused, eventually,
    http2_frames::{PREFACE, SETTINGS, frame},
    reserve, soon, watch_of,
};

const ROLES: (&str, &str) = ("auth.certificate_roles", "{\"spiffe://example.org/shop\" = [\"service\"]}");
/// A time in the next century.
const LATE: i64 = 4_000_000_000;
/// How long a certificate lives whose end a test waits for, in seconds.
const SHORT: i64 = 5;

/// A server with these settings that knows the shop by its certificate, and an event.
async fn secured(settings: &[(&str, &str)]) -> Secured {
    let secured = Secured::with(&[&[("tls.client_ca", "CLIENT_CA"), ROLES][..], settings].concat()).await;
    secured.guarded.event("concert", 5).await;
    secured
}

async fn watch(channel: &Channel) -> Streaming<pb::WatchChangesResponse> {
    let request = watch_of("concert", None);
    let mut updates =
        FeedServiceClient::new(channel.clone()).watch_changes(request).await.expect("a watch").into_inner();
    updates.message().await.expect("a snapshot").expect("comes first");
    updates
}

async fn assert_credentials_ended(mut updates: Streaming<pb::WatchChangesResponse>) {
    let end = soon("the watch ends", async {
        loop {
            match updates.message().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        }
    });
    assert_refused(end.await, Code::Unauthenticated, "CREDENTIALS_ENDED");
}

async fn reserves(channel: &Channel, user: &str) -> bool {
    ReservationServiceClient::new(channel.clone()).reserve(reserve("concert", user)).await.is_ok()
}

/// Whether the server speaks HTTP/2 to this client, and sends what a later resumption needs.
async fn is_greeted(secured: &Secured, config: &Arc<ClientConfig>) -> bool {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(secured.address()).await.expect("it listens");
    let Ok(mut stream) = TlsConnector::from(Arc::clone(config)).connect(name, stream).await else { return false };
    let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&greeting).await.is_ok() && stream.read(&mut [0; 9]).await.is_ok_and(|read| read > 0)
}

#[tokio::test]
async fn no_resumption_admits_an_expired_certificate() {
    let secured = secured(&[]).await;
    for version in [&TLS13, &TLS12] {
        let not_after = clock::now() + SHORT;
        let shop = secured.authority.shop(1, not_after);
        let client = client_side(&secured.authority, &[version], Some(&shop));
        assert!(is_greeted(&secured, &client).await, "it is valid");
        eventually("it expires", async || clock::now() > not_after).await;
        assert!(!is_greeted(&secured, &client).await, "{version:?}");
    }
    secured.check_and_stop().await;
}

#[tokio::test]
async fn calls_and_streams_end_when_the_certificate_expires() {
    let secured = secured(&[]).await;
    let not_after = clock::now() + SHORT;
    let shop = secured.connect(&secured.authority, Some(&secured.authority.shop(1, not_after))).await.expect("TLS");
    assert!(reserves(&shop, "ann").await);
    let updates = watch(&shop).await;
    assert_credentials_ended(updates).await;
    assert!(clock::now() >= not_after, "not before its time");
    assert!(!reserves(&shop, "bob").await, "and calls are refused");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn a_removed_authority_takes_its_certificates_with_it() {
    let secured = secured(&[]).await;
    let (folder, other) = (&secured.guarded.folder, Authority::new("another"));
    folder.file("clients.pem", secured.authority.pem() + &other.pem());
    let shop = other.shop(1, LATE);
    eventually("the other authority is trusted", async || !is_kept_out(&secured, Some(&shop)).await).await;
    let of_other = secured.connect(&secured.authority, Some(&shop)).await.expect("TLS");
    let of_first = secured.connect(&secured.authority, Some(&secured.authority.shop(1, LATE))).await.expect("TLS");
    let (ends, mut stays) = (watch(&of_other).await, watch(&of_first).await);
    // A token of its own does not keep the connection of a withdrawn certificate.
    let ann = Client::new(of_other.clone(), &secured.guarded.issuer.token("ann", &["user"]));
    ann.events().list_events(pb::ListEventsRequest::default()).await.expect("it is valid");

    folder.file("clients.pem", secured.authority.pem());
    assert_credentials_ended(ends).await;
    assert!(!reserves(&of_other, "ann").await);
    assert!(is_kept_out(&secured, Some(&shop)).await);
    let list = async || ann.events().list_events(pb::ListEventsRequest::default()).await;
    eventually("its connection ended", async || list().await.is_err()).await;
    assert!(reserves(&of_first, "bob").await, "the others go on");
    stays.message().await.expect("the watch of the others too").expect("a change");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn a_revoked_certificate_ends_at_once_and_does_not_return() {
    let secured = secured(&[("tls.client_crl", "CLIENT_CRL")]).await;
    let (bad, good) = (secured.authority.shop(7, LATE), secured.authority.shop(8, LATE));
    let revoked = secured.connect(&secured.authority, Some(&bad)).await.expect("TLS");
    let other = secured.connect(&secured.authority, Some(&good)).await.expect("TLS");
    let (ends, mut stays) = (watch(&revoked).await, watch(&other).await);

    secured.guarded.folder.file("revoked.pem", secured.authority.revocations(&[7]));
    assert_credentials_ended(ends).await;
    assert!(!reserves(&revoked, "ann").await);
    assert!(is_kept_out(&secured, Some(&bad)).await);
    assert!(reserves(&other, "bob").await, "the others go on");
    stays.message().await.expect("the watch of the others too").expect("a change");
    secured.check_and_stop().await;
}
