//! The errors of the service itself: locks, deadlines, load, the database, a stop, messages that can't be read.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use reservd::rpc::pb::{self, *};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tonic::Code::{self, Aborted, FailedPrecondition, InvalidArgument};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{assert_metadata, assert_retry, confirm, hold};
use crate::support::{
    Call, STRATEGIES, TestServer, assert_refused, bad_fields, eventually, metadata, raw_call, raw_call_with, reserve,
    soon, with,
};

async fn is_serving(server: &TestServer) -> bool {
    let answer = HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await;
    answer.expect("health always answers").into_inner().status() == ServingStatus::Serving
}

#[tokio::test]
async fn nowait_fails_at_once_on_a_locked_row() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let row = server.hold_row("e").await;
    let options =
        ExecutionOptions { strategy: ExecutionStrategy::Pessimistic.into(), lock_wait: LockWait::Nowait.into() };
    let request = ReserveRequest { options: Some(options), ..reserve("e", "ann") };
    let status = assert_refused(server.reservations().reserve(request.clone()).await, Aborted, "LOCK_TIMEOUT");
    assert_retry(&status);
    row.release().await;
    server.reservations().reserve(request).await.expect("the row is free");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_change_between_read_and_write_is_contention() {
    let server = TestServer::with(&[("execution.max_attempts", "1")]).await;
    server.event("e", 5).await;
    let row = server.hold_row("e").await;
    // This update is the first in the queue, so the second call's read is old when its turn comes.
    let mut client = server.reservations();
    let request = ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("e", "ann") };
    let first = tokio::spawn(async move { client.reserve(request).await });
    server.waiting(1).await;
    let mut client = server.reservations();
    let request = ReserveRequest { options: with(ExecutionStrategy::Optimistic), ..reserve("e", "bob") };
    let second = tokio::spawn(async move { client.reserve(request).await });
    server.waiting(2).await;
    row.release().await;
    soon("the first is done", first).await.expect("it ran").expect("there is room");
    let status = soon("the second is done", second).await.expect("it ran");
    let status = assert_refused(status, Aborted, "VERSION_CONTENTION");
    assert_metadata(&status, &[("attempts", "1")]);
    assert_retry(&status);
    server.check_and_stop().await;
}

/// The server's own limit applies here: with a deadline of the client, tonic's client races the server.
#[tokio::test]
async fn a_passed_deadline_is_deadline_exceeded() {
    let patient = TestServer::start().await;
    patient.event("e", 5).await;
    let server = patient.twin_with(&[("server.default_deadline", "150ms")]).await;
    let row = server.hold_row("e").await;
    for strategy in STRATEGIES {
        let request = ReserveRequest { options: with(strategy), ..reserve("e", "ann") };
        assert_refused(server.reservations().reserve(request).await, Code::DeadlineExceeded, "DEADLINE");
    }
    row.release().await;
    server.app.stop().await;
    patient.check_and_stop().await;
}

#[tokio::test]
async fn a_call_beyond_the_limit_is_shed_before_any_work_while_health_answers() {
    let server = TestServer::with(&[("server.max_in_flight", "1")]).await;
    server.event("e", 5).await;
    let row = server.hold_row("e").await;
    let mut client = server.reservations();
    let first = tokio::spawn(async move { client.reserve(reserve("e", "ann")).await });
    server.waiting(1).await;
    let event = Some(pb::Event { event_id: "other".into(), capacity: 1, ..Default::default() });
    let shed: [Call; 3] = [
        reserve("e", "bob").into(),
        CreateEventRequest { event, ..Default::default() }.into(),
        // The request is not even decoded.
        GetEventRequest { event_id: "\0".into() }.into(),
    ];
    for call in shed {
        assert_retry(&assert_refused(call.send(&server).await, Code::ResourceExhausted, "OVERLOADED"));
    }
    assert!(is_serving(&server).await);
    row.release().await;
    soon("the first is done", first).await.expect("it ran").expect("there is room");
    eventually("there is a place again", async || {
        let asked = server.events().get_event(GetEventRequest { event_id: "e".into() }).await;
        asked.is_ok()
    })
    .await;
    assert_eq!(server.metric("reservd_rpcs_shed_total").await, 3.0);
    let created: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE event_id = 'other'")
        .fetch_one(&mut server.sql().await)
        .await
        .expect("a count");
    assert_eq!(created, 0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_lost_database_is_unavailable_and_comes_back() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    assert!(is_serving(&server).await);
    let name = server.database.options.get_database().expect("a database has a name").to_owned();
    let mut admin = PgConnection::connect_with(&server.database.options.clone().database("postgres"))
        .await
        .expect("PostgreSQL is there");
    let allow = |is_allowed: bool| AssertSqlSafe(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {is_allowed}"));

    admin.execute(allow(false)).await.expect("it can be closed");
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(&name)
        .execute(&mut admin)
        .await
        .expect("its connections can be ended");
    let calls: Vec<Call> = vec![
        ReserveRequest { options: with(ExecutionStrategy::Pessimistic), ..reserve("e", "ann") }.into(),
        ReserveRequest { options: with(ExecutionStrategy::Optimistic), ..reserve("e", "ann") }.into(),
        GetEventRequest { event_id: "e".into() }.into(),
        ListEventsRequest::default().into(),
    ];
    for call in calls {
        let status = assert_refused(call.send(&server).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert_retry(&status);
    }
    eventually("health says NOT_SERVING", async || !is_serving(&server).await).await;

    admin.execute(allow(true)).await.expect("it can be opened");
    eventually("health says SERVING", async || is_serving(&server).await).await;
    hold(&server, "e", "ann", 1).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_defect_is_opaque() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let mut sql = server.sql().await;
    sql.execute("ALTER TABLE reservations RENAME TO gone").await.expect("it can be renamed");
    for call in [Call::from(reserve("e", "ann")), confirm("e", "ann").into()] {
        let status = assert_refused(call.send(&server).await, Code::Internal, "INTERNAL");
        assert_eq!(status.message(), "an internal error; it has been logged");
        assert_metadata(&status, &[]);
    }
    sql.execute("ALTER TABLE gone RENAME TO reservations").await.expect("it can be renamed back");
    hold(&server, "e", "ann", 1).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = TestServer::start().await;
    for path in ["/reservd.v1.ReservationService/Steal", "/reservd.v2.ReservationService/Reserve"] {
        let status = raw_call(server.channel(), path, Vec::new()).await;
        assert_refused(status, Code::Unimplemented, "METHOD_UNKNOWN");
    }
    let service = HealthCheckRequest { service: "unknown".into() };
    let status = HealthClient::new(server.channel()).check(service).await;
    assert_refused(status, Code::NotFound, "SERVICE_UNKNOWN");
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_unreadable_message_is_the_callers_mistake() {
    let server = TestServer::start().await;
    // A field of text that is not UTF-8; a length beyond the end; a tag that no message has.
    for broken in [&b"\x0a\x02\xff\xfe"[..], b"\x0a\x7fx", b"\x07", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let status = raw_call(server.channel(), "/reservd.v1.ReservationService/Reserve", broken.to_vec()).await;
        assert_refused(status, InvalidArgument, "MESSAGE_MALFORMED");
    }
    let settled =
        raw_call(server.channel(), "/reservd.v1.ReservationService/Reserve", vec![0x0a; 2 * 1024 * 1024]).await;
    assert_refused(settled, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    // Unknown fields are a newer client's.
    let mut newer = GetEventRequest { event_id: "gone".into() }.encode_to_vec();
    newer.extend_from_slice(b"\xfa\x3f\x01x");
    let status = raw_call(server.channel(), "/reservd.v1.EventService/GetEvent", newer).await;
    assert_refused(status, Code::NotFound, "EVENT_NOT_FOUND");
    server.check_and_stop().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_otherwise_is_refused_with_a_reason() {
    let server = TestServer::start().await;
    let mut request = tonic::Request::new(Vec::new());
    request.metadata_mut().insert("grpc-encoding", "snappy".parse().expect("a header's value"));
    let packed = raw_call_with(server.channel(), "/reservd.v1.EventService/GetEvent", request).await;
    assert_refused(packed, Code::Unimplemented, "COMPRESSION_UNKNOWN");

    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let nothing = tonic_reflection::pb::v1::ServerReflectionRequest::default();
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(nothing)).await.expect("a stream").into_inner();
    assert_refused(answers.message().await, Code::InvalidArgument, "CALL_REFUSED");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_page_token_belongs_to_its_listing_and_cannot_be_forged() {
    let server = TestServer::start().await;
    for event_id in ["a", "b", "c"] {
        server.event(event_id, 5).await;
        hold(&server, event_id, "ann", 1).await;
    }
    let (mut events, mut reservations) = (server.events(), server.reservations());
    let listed = ListEventsRequest { page_size: 1, ..Default::default() };
    let of_ann = ListReservationsRequest { user_id: "ann".into(), page_size: 1, ..Default::default() };
    let events_token = events.list_events(listed.clone()).await.expect("a page").into_inner().next_page_token;
    let holds_token =
        reservations.list_reservations(of_ann.clone()).await.expect("a page").into_inner().next_page_token;

    let forged = |token: &str, cursor: Value| {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).expect("our tokens are base64");
        let (bound_to, _): (String, Value) = serde_json::from_slice(&token).expect("our tokens are JSON");
        BASE64_URL_SAFE_NO_PAD.encode(json!([bound_to, cursor]).to_string())
    };
    let mut calls: Vec<Call> = vec![
        ListEventsRequest { series_id: "other".into(), page_token: events_token.clone(), ..Default::default() }.into(),
        ListEventsRequest { page_token: holds_token.clone(), ..Default::default() }.into(),
        ListReservationsRequest { user_id: "bob".into(), page_token: holds_token.clone(), ..Default::default() }.into(),
        ListReservationsRequest { page_token: holds_token.clone(), event_id: "a".into(), ..of_ann.clone() }.into(),
    ];
    for token in ["x", "%%%", "AAAA", &"A".repeat(5000), &events_token[1..]] {
        calls.push(ListEventsRequest { page_token: token.into(), ..Default::default() }.into());
        calls.push(ListReservationsRequest { page_token: token.into(), ..of_ann.clone() }.into());
    }
    for cursor in [json!([i64::MIN, "a"]), json!([i64::MAX, "a"]), json!([0, "a\0"]), json!([0, ""]), json!(7)] {
        let page_token = forged(&events_token, cursor);
        calls.push(ListEventsRequest { page_token, ..Default::default() }.into());
    }
    let id = "0190b6d4-5b7e-7c3a-9f00-0123456789ab";
    for cursor in [json!(["a\0", id]), json!(["", id]), json!(["a", "x"]), json!([null, id])] {
        let page_token = forged(&holds_token, cursor);
        calls.push(ListReservationsRequest { page_token, ..of_ann.clone() }.into());
    }
    for call in calls {
        let asked = format!("{call:?}");
        let status = call.send(&server).await.expect_err(&asked);
        assert_eq!(
            (status.code(), crate::support::reason(&status).as_str()),
            (InvalidArgument, "PAGE_TOKEN_INVALID"),
            "{asked}"
        );
        assert_eq!(bad_fields(&status), ["page_token"]);
    }
    // Another page size is no other listing.
    let larger = ListEventsRequest { page_token: events_token, page_size: 10, ..Default::default() };
    assert_eq!(events.list_events(larger).await.expect("a page").into_inner().events.len(), 2);
    server.check_and_stop().await;
}

#[tokio::test]
async fn creating_existing_events_names_as_many_as_fit() {
    let server = TestServer::start().await;
    let create = |event_id: String| {
        let event = pb::Event { event_id, capacity: 1, ..Default::default() };
        CreateEventRequest { event: Some(event), ..Default::default() }
    };
    let mut events = server.events();
    let batch = |ids: &[String]| BatchCreateEventsRequest {
        requests: ids.iter().cloned().map(create).collect(),
        ..Default::default()
    };
    let ids: Vec<String> = (0..120).map(|n| format!("{n:0>128}")).collect();
    events.batch_create_events(batch(&ids)).await.expect("they are new");
    let status = events.create_event(create(ids[7].clone())).await;
    let status = assert_refused(status, Code::AlreadyExists, "EVENT_EXISTS");
    assert_metadata(&status, &[("event_ids", &ids[7])]);
    let some = [&ids[..2], &["new".to_owned()], &ids[4..5]].concat();
    let status = assert_refused(events.batch_create_events(batch(&some)).await, Code::AlreadyExists, "EVENT_EXISTS");
    assert_metadata(&status, &[("event_ids", &[&*ids[0], &ids[1], &ids[4]].join(","))]);
    let status = assert_refused(events.batch_create_events(batch(&ids)).await, Code::AlreadyExists, "EVENT_EXISTS");
    let found = metadata(&status);
    let named = found["event_ids"].split(',').count();
    let unlisted: usize = found["unlisted"].parse().expect("a number");
    assert!(named > 10 && named + unlisted == 120, "{named} named, {unlisted} not");
    server.check_and_stop().await;
}

#[tokio::test]
async fn concurrency_tests_are_off_unless_they_are_allowed() {
    let server = TestServer::with(&[("diagnostics.concurrency_test", "false")]).await;
    let status = server.diagnostics().run_concurrency_test(diagnostics::RunConcurrencyTestRequest::default()).await;
    assert_refused(status.map(drop), FailedPrecondition, "DIAGNOSTICS_DISABLED");
    server.check_and_stop().await;
}
