//! VerifyEvent on waitlists that were made wrong on purpose, and PostgreSQL's own constraints.

use reservd::rpc::pb;
use sqlx::{AssertSqlSafe, Executor};

use super::{cancel, full};
use crate::support::{TestServer, join, skipping};

const DRIFTS: [(&str, &str); 5] = [
    ("UPDATE events SET waiting = 3", "3 waitlist entries counted, 2 in rows"),
    ("UPDATE waitlist SET state = 'LEFT' WHERE user_id = 'a'", "2 waitlist entries counted, 1 in rows"),
    ("UPDATE waitlist SET user_id = 'ann' WHERE user_id = 'a'", "1 users wait for what they have reserved"),
    (
        "UPDATE waitlist SET min_quantity = 1 WHERE user_id = 'a'",
        "units are free that fit a waiting entry whose turn it is",
    ),
    ("UPDATE events SET state = 'CANCELLED'", "the event is cancelled, and 2 entries still wait"),
];

#[tokio::test]
async fn verify_event_reports_every_kind_of_drift_of_a_waitlist() {
    let server = TestServer::with(&[("waitlist.promotion_interval", "1h")]).await;
    full(&server, "e", 4, skipping(1)).await;
    for (user, quantity) in [("a", 2), ("b", 3)] {
        server.join(join("e", user, quantity)).await.expect("it is sold out");
    }
    server.cancel(cancel("e", "ann", 1)).await.expect("she has four");
    let verify = async || {
        let audit = server.events().verify_event(pb::VerifyEventRequest { event_id: "e".into() }).await;
        audit.expect("it is there").into_inner()
    };
    let audit = verify().await;
    let waiting = audit.checks.iter().find(|check| check.name == "waiting").expect("it is checked");
    assert_eq!((audit.ok, waiting.recorded, waiting.counted), (true, 2, 2), "{audit:?}");
    let mut sql = server.sql().await;
    let copy = "CREATE TABLE e AS TABLE events; CREATE TABLE w AS TABLE waitlist";
    sql.execute(sqlx::raw_sql(copy)).await.expect("what is right can be kept");
    for (drift, problem) in DRIFTS {
        sql.execute(AssertSqlSafe(drift)).await.expect("the drift can be planted");
        let audit = verify().await;
        assert!(!audit.ok && audit.problems.iter().any(|found| found.contains(problem)), "{drift}: {audit:?}");
        let back = "DELETE FROM waitlist; INSERT INTO waitlist SELECT * FROM w;
                    UPDATE events SET waiting = e.waiting, state = e.state FROM e";
        sql.execute(sqlx::raw_sql(back)).await.expect("it can be put right");
    }
    // An entry is passed over if the policy allows it, and only then.
    let later = "UPDATE waitlist SET min_quantity = 1 WHERE user_id = 'b'";
    sql.execute(AssertSqlSafe(later)).await.expect("an entry can be made small");
    assert!(!verify().await.ok);
    sql.execute("UPDATE waitlist SET skips = 1 WHERE user_id = 'a'").await.expect("skips can be set");
    assert!(verify().await.ok);
    server.app.stop().await;
}

#[tokio::test]
async fn postgresql_refuses_a_second_entry_of_one_user_and_a_place_taken_twice() {
    let server = TestServer::start().await;
    full(&server, "e", 1, skipping(1)).await;
    server.join(join("e", "a", 1)).await.expect("it is sold out");
    let mut sql = server.sql().await;
    for (copied, constraint) in [
        ("gen_random_uuid(), user_id, quantity, min_quantity, state, 99", "waitlist_one_per_user"),
        ("gen_random_uuid(), 'b', quantity, min_quantity, state, ticket", "waitlist_tickets"),
        ("gen_random_uuid(), 'b', quantity, 2, state, 99", "waitlist_quantities"),
        ("gen_random_uuid(), 'b', quantity, min_quantity, 'ASLEEP', 99", "waitlist_state_known"),
    ] {
        let insert = format!(
            "INSERT INTO waitlist SELECT event_id, {copied}, skips, labels, version, create_time, update_time FROM waitlist"
        );
        let refused = sql.execute(AssertSqlSafe(insert.as_str())).await.expect_err(constraint);
        let refused = refused.as_database_error().and_then(|error| error.constraint()).map(str::to_owned);
        assert_eq!(refused.as_deref(), Some(constraint));
    }
    server.check_and_stop().await;
}
