//! The expiry worker: it releases holds in the order in which they lapsed, in time without constant polling, and
//! without delaying commands.

use crate::support::{TestServer, all, eventually, millis, reserve};
use reservd::rpc::pb;

const NO_EXPIRY: (&str, &str) = ("expiry.interval", "1h");

/// Holds of one unit for this many users, spread over some events.
async fn hold(server: &TestServer, events: &[&str], users: usize) {
    for event_id in events {
        server.event(event_id, 1000).await;
    }
    let holds = (0..users).map(|n| server.reserve(reserve(events[n % events.len()], &format!("user-{n}"))));
    all(holds).await.into_iter().for_each(|answer| drop(answer.expect("there is room")));
}

/// Moves the end of every hold to a moment of its own some hours ago, in a random order.
async fn lapse_hours_ago(server: &TestServer) {
    const SQL: &str = "
        UPDATE reservations SET expire_time = clock_timestamp() - interval '9 hours'
               + interval '1 second' * (hashtext(user_id) % 10000) WHERE state = 'HELD'";
    sqlx::query(SQL).execute(&mut server.sql().await).await.expect("holds can be moved");
}

async fn held(server: &TestServer) -> i64 {
    let held = sqlx::query_scalar("SELECT count(*) FROM reservations WHERE state = 'HELD'");
    held.fetch_one(&mut server.sql().await).await.expect("a count")
}

#[tokio::test]
async fn after_a_long_outage_holds_are_released_in_the_order_in_which_they_lapsed() {
    let server = TestServer::with(&[NO_EXPIRY]).await;
    hold(&server, &["a", "b", "c"], 300).await;
    lapse_hours_ago(&server).await;
    // A server runs expiry when it starts, and again at once while a run reaches its limit.
    let twin = server.twin_with(&[NO_EXPIRY, ("expiry.batch", "20")]).await;
    eventually("all are released", async || held(&server).await == 0).await;
    // In this order over all transactions, and over the versions of each event.
    const OVERTAKEN: &str = "
        SELECT count(*) FROM changes x JOIN changes y ON x.kind = 'RESERVATION_EXPIRED' AND y.kind = 'RESERVATION_EXPIRED'
         WHERE x.expire_time < y.expire_time
           AND (x.change_time > y.change_time OR (x.event_id = y.event_id AND x.version > y.version))";
    let overtaken: i64 = sqlx::query_scalar(OVERTAKEN).fetch_one(&mut server.sql().await).await.expect("a count");
    assert_eq!(overtaken, 0);
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn expiry_sleeps_no_longer_than_until_the_next_hold_lapses() {
    let server = TestServer::with(&[NO_EXPIRY]).await;
    server.event("e", 5).await;
    let request = pb::ReserveRequest { hold_ttl: millis(2000), ..reserve("e", "ann") };
    let hold = server.reserve(request).await.expect("there is room").reservation;
    // The next run is in an hour, unless a hold lapses earlier.
    let twin = server.twin_with(&[NO_EXPIRY]).await;
    assert_eq!(held(&server).await, 1, "not before its time");
    server.until(hold.expire_time, 0).await;
    eventually("the hold is released", async || held(&server).await == 0).await;
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_hold_that_lapsed_long_before_its_commit_was_seen_is_found_by_a_full_look() {
    let server = TestServer::with(&[("expiry.interval", "10ms")]).await;
    server.event("e", 5).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    // The first run of this server was a full look; the first run of another server finds holds moved behind it.
    lapse_hours_ago(&server).await;
    let twin = server.twin().await;
    eventually("the hold is released", async || held(&server).await == 0).await;
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn lag_and_backlog_are_reported_while_a_busy_event_delays_expiry() {
    let server = TestServer::with(&[NO_EXPIRY]).await;
    hold(&server, &["e"], 5).await;
    lapse_hours_ago(&server).await;
    let row = server.hold_row("e").await;
    let twin = server.twin().await;
    eventually("the backlog is reported", async || twin.metric("reservd_expiry_backlog").await == 5.0).await;
    assert!(twin.metric("reservd_expiry_lag_seconds").await > 3600.0);
    row.release().await;
    eventually("all are released", async || held(&server).await == 0).await;
    let delays = "reservd_expiry_delay_seconds_count";
    eventually("the delays are reported", async || twin.metric(delays).await == 5.0).await;
    twin.app.stop().await;
    server.check_and_stop().await;
}
