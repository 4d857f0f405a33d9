//! Speculation: a Reserve is accepted from the cache, without a read. If the cache was wrong, nothing is written, and
//! the command is decided again on a read. A slow machine may read where a fast one speculates, so tests repeat until a
//! command was speculative.

use futures::future::join_all;
use prost_types::FieldMask;
use reservd::rpc::pb::{self, ExecutionStrategy, WaitlistEntryState as EntryState};
use sqlx::Row;
use tonic::{Code, Response, Status};

use crate::support::{TestServer, assert_refused, eventually, join, of_user, reason, reserve, strict, with};

const SPECULATIVE: &str = "reservd_batch_speculative_total";
const MISPREDICTED: &str = "reservd_batch_mispredicted_total";
const TRIES: u32 = 500;

fn wish(user: &str) -> pb::ReserveRequest {
    pb::ReserveRequest { options: with(ExecutionStrategy::Coalesced), ..reserve("e", user) }
}

async fn reserved(server: &TestServer, wish: pb::ReserveRequest) -> Result<pb::ReserveResponse, Status> {
    server.reservations().reserve(wish).await.map(Response::into_inner)
}

/// Repeats until this metric has grown.
async fn until_more(server: &TestServer, metric: &str, mut attempt: impl AsyncFnMut(u32)) {
    let before = server.metric(metric).await;
    for number in 0..TRIES {
        attempt(number).await;
        if server.metric(metric).await > before {
            return;
        }
    }
    panic!("{metric} stayed at {before}");
}

#[tokio::test]
async fn a_user_who_has_a_reservation_gets_no_second_one() {
    let server = TestServer::start().await;
    server.event("e", 1_000_000).await;
    until_more(&server, MISPREDICTED, async |number| {
        let user = format!("user-{number}");
        reserved(&server, wish(&user)).await.expect("there is room");
        assert_refused(reserved(&server, wish(&user)).await, Code::AlreadyExists, "ALREADY_RESERVED");
    })
    .await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_known_request_id_is_answered_from_the_history() {
    let server = TestServer::start().await;
    server.event("e", 1_000_000).await;
    until_more(&server, MISPREDICTED, async |number| {
        let request_id = format!("request-{number}");
        let first = pb::ReserveRequest { request_id: request_id.clone(), ..wish(&format!("ann-{number}")) };
        let other = pb::ReserveRequest { request_id, ..wish(&format!("bob-{number}")) };
        let made = reserved(&server, first.clone()).await.expect("there is room");
        // Bob has no reservation; only the request_id, which stands for another payload, causes the refusal.
        assert_refused(reserved(&server, other).await, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        let again = reserved(&server, first).await.expect("answered again");
        assert_eq!((again.reservation, again.execution.expect("a report").replayed), (made.reservation, true));
    })
    .await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn changes_by_others_count_and_not_the_cache() {
    let server = TestServer::start().await;
    let twin = server.twin().await;
    server.event("e", 1_000_000).await;
    let (close, open) = (
        pb::CloseEventRequest { event_id: "e".into(), ..Default::default() },
        pb::OpenEventRequest { event_id: "e".into(), ..Default::default() },
    );
    until_more(&server, MISPREDICTED, async |number| {
        // Each misprediction raises the penalty: predictions must be right for a while before the next speculation.
        for user in 0..3 {
            reserved(&server, wish(&format!("user-{number}-{user}"))).await.expect("it is open");
        }
        twin.events().close_event(close.clone()).await.expect("it is open");
        let late = reserved(&server, wish(&format!("late-{number}"))).await;
        assert_refused(late, Code::FailedPrecondition, "EVENT_NOT_OPEN");
        twin.events().open_event(open.clone()).await.expect("it is closed");
    })
    .await;
    twin.app.stop().await;
    server.check_and_stop().await;
}

/// A replica that takes over may lack the last commits; their versions are then assigned a second time.
#[tokio::test]
async fn after_an_outage_the_cache_is_empty() {
    const LOST: &str = "
        WITH last AS (SELECT version, reservation_id FROM changes WHERE event_id = 'e' ORDER BY version DESC LIMIT 1),
        lost AS (DELETE FROM reservations r USING last WHERE r.event_id = 'e' AND r.reservation_id = last.reservation_id),
        gone AS (DELETE FROM changes c USING last WHERE c.event_id = 'e' AND c.version = last.version)
        UPDATE events SET held = held - 1, version = version - 1 WHERE event_id = 'e'";
    const CUT: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'reservd'";
    let server = TestServer::with(&[("execution.lanes", "1")]).await;
    let mut sql = server.sql().await;
    for event_id in ["e", "other"] {
        server.event(event_id, 1_000_000).await;
    }
    for round in 0..5 {
        until_more(&server, SPECULATIVE, async |number| {
            reserved(&server, wish(&format!("user-{round}-{number}"))).await.expect("there is room");
        })
        .await;
        sqlx::query(LOST).execute(&mut sql).await.expect("it is as if it had not been");
        sqlx::query(CUT).execute(&mut sql).await.expect("connections can be cut");
        let twin = server.twin().await;
        let large = pb::ReserveRequest { quantity: 5, ..wish(&format!("twin-{round}")) };
        reserved(&twin, large).await.expect("there is room");
        twin.app.stop().await;
        for event_id in ["other", "other", "e"] {
            let user = format!("after-{round}-{event_id}-{}", fastrand::u32(..));
            let again = pb::ReserveRequest { request_id: user.clone(), event_id: event_id.into(), ..wish(&user) };
            reserved(&server, again).await.expect("there is room");
        }
        server.check().await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_refusal_never_comes_from_the_cache() {
    let server = TestServer::start().await;
    let twin = server.twin().await;
    let limit = |max| pb::Event {
        event_id: "e".into(),
        limits: Some(pb::EventLimits { max_quantity: Some(max), ..Default::default() }),
        ..Default::default()
    };
    server.event_with(pb::Event { capacity: 1_000_000, ..limit(1) }).await;
    let mut users = 0..;
    let mut user = || format!("user-{}", users.next().expect("there are enough"));
    for _ in 0..5 {
        until_more(&server, SPECULATIVE, async |_| {
            reserved(&server, wish(&user())).await.expect("there is room");
        })
        .await;
        for max in [4, 1] {
            let mask = Some(FieldMask { paths: vec!["limits.max_quantity".into()] });
            let event = Some(limit(max));
            let update = pb::UpdateEventRequest { event, update_mask: mask, ..Default::default() };
            twin.events().update_event(update).await.expect("it may be changed");
            let three = reserved(&server, pb::ReserveRequest { quantity: 3, ..wish(&user()) }).await;
            match max {
                4 => drop(three.expect("it was allowed a moment ago")),
                _ => drop(assert_refused(three, Code::FailedPrecondition, "QUANTITY_LIMIT")),
            }
        }
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_waiting_user_who_reserves_leaves_the_waitlist() {
    let server = TestServer::start().await;
    server.event_with_waitlist("e", 10, pb::WaitlistPolicy { newcomers_may_overtake: true, ..strict() }).await;
    reserved(&server, pb::ReserveRequest { quantity: 8, ..wish("many") }).await.expect("there is room");
    for round in 0..20 {
        let waiting = format!("waiting-{round}");
        server.join(join("e", &waiting, 3)).await.expect("it does not fit");
        // The cache now knows that an entry waits, but not which.
        reserved(&server, wish("other")).await.expect("there is room");
        reserved(&server, wish(&waiting)).await.expect("there is room");
        assert_eq!(server.entry("e", &waiting).await.entry.expect("a record").state(), EntryState::Left);
        for user in ["other", &waiting] {
            let cancel = pb::CancelRequest { event_id: "e".into(), reservation: of_user(user), ..Default::default() };
            server.reservations().cancel(cancel).await.expect("it is there");
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_returning_user_does_not_affect_the_others_of_a_batch() {
    let server = TestServer::with(&[("execution.lanes", "1")]).await;
    let events = ["a", "b", "c"];
    for event_id in events {
        server.event(event_id, 1_000_000).await;
    }
    let call = |round: u32, number: usize| {
        let event_id = events[number % events.len()].to_owned();
        reserved(&server, pb::ReserveRequest { event_id, ..wish(&format!("user-{round}-{number}")) })
    };
    until_more(&server, MISPREDICTED, async |round| {
        assert!(join_all((0..60).map(|number| call(round, number))).await.iter().all(Result::is_ok));
        // All users are new, except one.
        let answers = join_all((60..119).chain([7]).map(|number| call(round, number))).await;
        let (again, new) = answers.split_last().expect("there are answers");
        assert!(new.iter().all(Result::is_ok));
        assert_eq!(again.as_ref().map_err(reason).map(|_| ()), Err("ALREADY_RESERVED".to_owned()));
    })
    .await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn only_the_mispredicted_events_of_a_batch_are_not_written() {
    const WRITTEN: &str = "WRITTEN";
    const WRONG: &str = "MISPREDICTED";
    const BATCH: &str = "
        SELECT write_events(
            ARRAY[ROW('a', 2, NULL, 2, 1, 0, 0), ROW('b', 2, NULL, 2, 1, 0, 0), ROW('c', 1, NULL, 1, 0, 0, 0),
                  ROW('d', 7, NULL, 8, 1, 0, 0)]::event_write[],
            '{}', '{}', '{}', '{}', '{}', '{}', '{}', ARRAY['a', 'b', 'c'], $1::text[], $2::text[], false, NULL)";
    let server = TestServer::start().await;
    for event_id in ["a", "b", "c", "d"] {
        server.event(event_id, 5).await;
    }
    for event_id in ["a", "b"] {
        let wish = pb::ReserveRequest { event_id: event_id.into(), request_id: "first".into(), ..wish("ann") };
        reserved(&server, wish).await.expect("there is room");
    }
    let mut sql = server.sql().await;
    for (users, requests, expected) in [
        // All users are new; d has another version.
        (["bob"; 3], [None; 3], [WRITTEN, WRITTEN, WRITTEN]),
        (["ann", "bob", "ann"], [None; 3], [WRONG, WRITTEN, WRITTEN]),
        (["bob"; 3], [None, Some("first"), Some("first")], [WRITTEN, WRONG, WRITTEN]),
        (["ann"; 3], [Some("first"); 3], [WRONG, WRONG, WRITTEN]),
    ] {
        let row = sqlx::query(BATCH).bind(users).bind(requests).fetch_one(&mut sql).await.expect("it runs");
        let outcomes: Vec<String> = row.get(0);
        assert_eq!(outcomes[..3], expected, "{users:?} {requests:?}");
        assert_eq!(outcomes[3], "CHANGED");
    }
    server.check_and_stop().await;
}

/// Plans live as long as their connections. A plan made on empty tables may begin with all rows of an event, and would
/// later read many rows for each batch.
#[tokio::test]
async fn plans_made_on_empty_tables_work_on_full_ones() {
    const OTHERS: i64 = 30_000;
    const FILL: &str = "
        INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, extensions, version,
                                  create_time, update_time, confirm_time)
        SELECT id, gen_random_uuid(), 'other-' || n, 1, 'CONFIRMED', 0, 1, now(), now(), now()
          FROM unnest(ARRAY['e', 'f']) AS id, generate_series(1, $1::bigint) AS n";
    const READ: &str = "
        SELECT sum(idx_tup_read)::bigint, sum(idx_scan) FILTER (WHERE indexrelname = 'reservations_one_live_per_user')::bigint
          FROM pg_stat_user_indexes WHERE relname = 'reservations'";
    let server = TestServer::with(&[("execution.lanes", "1")]).await;
    for event_id in ["e", "f"] {
        server.event(event_id, 1_000_000).await;
    }
    let crowd = async |name: &str, event_ids: &[&str]| {
        let calls = (0..40).map(|number| {
            let event_id = event_ids[number % event_ids.len()].to_owned();
            reserved(&server, pb::ReserveRequest { event_id, ..wish(&format!("{name}-{number}")) })
        });
        join_all(calls).await.into_iter().for_each(|answer| drop(answer.expect("there is room")));
    };
    until_more(&server, SPECULATIVE, async |round| {
        crowd(&format!("first-{round}"), &["e"]).await;
        crowd(&format!("second-{round}"), &["e", "f"]).await;
    })
    .await;
    let mut sql = server.sql().await;
    sqlx::query(FILL).bind(OTHERS).execute(&mut sql).await.expect("they are there");
    let (read_before, scans_before): (i64, i64) = sqlx::query_as(READ).fetch_one(&mut sql).await.expect("statistics");
    let mut round = 0;
    let mut read = 0;
    eventually("the statistics tell of the crowds", async || {
        round += 1;
        crowd(&format!("third-{round}"), &["e"]).await;
        crowd(&format!("fourth-{round}"), &["e", "f"]).await;
        let (now, scans): (i64, i64) = sqlx::query_as(READ).fetch_one(&mut sql).await.expect("statistics");
        read = now - read_before;
        scans - scans_before > 80
    })
    .await;
    assert!(read < OTHERS / 2, "{read} entries of indexes were read");
    let removed = sqlx::query("DELETE FROM reservations WHERE user_id LIKE 'other-%'").execute(&mut sql).await;
    removed.expect("they go");
    server.check_and_stop().await;
}
