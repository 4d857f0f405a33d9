//! Calls: too large, too large once unpacked, with too much metadata, and abandoned at once.

use reservd::rpc::pb::{event_service_client::EventServiceClient, *};
use tonic::{Code, Request, codec::CompressionEncoding};
use tonic_types::StatusExt;

use crate::support::{TestServer, assert_refused, eventually, reserve, with};

fn named(size: usize) -> CreateEventRequest {
    let event = Event { event_id: "e".into(), display_name: "a".repeat(size), ..Default::default() };
    CreateEventRequest { event: Some(event), ..Default::default() }
}

#[tokio::test]
async fn a_message_is_bounded_compressed_and_unpacked() {
    let server = TestServer::start().await;
    let mut plain = server.events();
    let mut packed = EventServiceClient::new(server.channel()).send_compressed(CompressionEncoding::Gzip);
    let large = plain.create_event(named(1024 * 1024)).await;
    assert_refused(large, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    // Some 64 KB that unpack to 64 MB.
    let bomb = packed.create_event(named(64 * 1024 * 1024)).await;
    assert_refused(bomb, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    // Within the bounds both are read; the name is then refused as too long.
    for client in [&mut plain, &mut packed] {
        let long = client.create_event(named(1024 * 1024 - 64)).await;
        assert_refused(long, Code::InvalidArgument, "FIELD_INVALID");
    }
    packed.create_event(named(256)).await.expect("gzip is taken");
    server.check_and_stop().await;
}

#[tokio::test]
async fn metadata_is_bounded_and_the_connection_lives_on() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let mut client = server.reservations();
    let mut with = async |user: &str, size: usize| {
        let mut request = Request::new(reserve("e", user));
        request.metadata_mut().insert("x-much", "a".repeat(size).parse().expect("a header's value"));
        client.reserve(request).await
    };
    with("ann", 8 * 1024).await.expect("that much is taken");
    let refused = with("bob", 20 * 1024).await.expect_err("that much is not");
    // The one error that docs/ERRORS.md leaves out: HTTP/2 answers it, with the status 431.
    assert_eq!(refused.code(), Code::Unknown, "{refused:?}");
    assert!(refused.get_details_error_info().is_none(), "{refused:?}");
    assert!(refused.message().contains("431"), "{refused:?}");
    with("cid", 8 * 1024).await.expect("the connection lives on");
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM reservations")
        .fetch_one(&mut server.sql().await)
        .await
        .expect("a count");
    assert_eq!(made, 2);
    server.check_and_stop().await;
}

/// Their work goes on, and the limit counts it.
#[tokio::test]
async fn callers_that_hang_up_still_count_against_the_limit() {
    let server = TestServer::with(&[("server.max_in_flight", "3")]).await;
    server.event("e", 9).await;
    let row = server.hold_row("e").await;
    for (waiting, user) in (1..).zip(["ann", "bob", "cid"]) {
        let mut client = server.reservations();
        // Each call has a transaction of its own, whose wait the test can see.
        let request = ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("e", user) };
        let call = tokio::spawn(async move { client.reserve(request).await });
        server.waiting(waiting).await;
        call.abort();
    }
    let hung_up = "reservd_rpcs_total{code=\"CANCELLED\",method=\"reservd.v1.ReservationService/Reserve\"}";
    eventually("the server notices", async || server.metric(hung_up).await == 3.0).await;
    let one_more = server.reservations().reserve(reserve("e", "dan")).await;
    assert_refused(one_more, Code::ResourceExhausted, "OVERLOADED");
    row.release().await;
    eventually("there is room again", async || {
        server.events().get_event(GetEventRequest { event_id: "e".into() }).await.is_ok()
    })
    .await;
    eventually("what was begun ends", async || server.get_event("e").await.counts.unwrap_or_default().held == 3).await;
    server.check_and_stop().await;
}
