//! The constraints of PostgreSQL, with the program's own checks bypassed; and the errors that callers then get, which
//! never contain SQL.

use reservd::rpc::pb;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tonic::Code;

use crate::support::{PATIENT, STRATEGIES, TestServer, assert_refused, metadata, reserve, soon, with};

/// The SQLSTATE and the constraint that refuse a statement.
async fn refused_by(sql: &mut PgConnection, statement: &str) -> (String, String) {
    let refused = sql.execute(AssertSqlSafe(statement)).await.expect_err(statement);
    let refused = refused.as_database_error().unwrap_or_else(|| panic!("{statement}: {refused}"));
    let code = refused.code().expect("PostgreSQL's errors have a code").into_owned();
    (code, refused.constraint().unwrap_or("no constraint").to_owned())
}

/// Inserts a live reservation without the program.
fn insert(user_id: &str, quantity: i32, state: &str, expire_time: &str) -> String {
    format!(
        "INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, extensions,
                                   version, create_time, update_time)
         VALUES ('show', gen_random_uuid(), '{user_id}', {quantity}, '{state}', {expire_time}, 0, 9, now(), now())"
    )
}

/// A server with an event of five units, of which ann holds two and bob has taken one.
async fn with_a_show() -> TestServer {
    let server = TestServer::with(&PATIENT).await;
    server.event("show", 5).await;
    server.reserve(pb::ReserveRequest { quantity: 2, ..reserve("show", "ann") }).await.expect("there is room");
    server.reserve(pb::ReserveRequest { confirm: true, ..reserve("show", "bob") }).await.expect("there is room");
    server
}

#[tokio::test]
async fn postgresql_refuses_to_oversell() {
    let server = with_a_show().await;
    let mut sql = server.sql().await;
    for change in [
        "held = held + 3",
        "confirmed = confirmed + 3",
        "held = 5, confirmed = 1",
        "held = 2147483647, confirmed = 2147483647",
        "capacity = 2",
        "held = -1",
        "confirmed = -1",
        "held = -3, confirmed = 8",
    ] {
        let refused = refused_by(&mut sql, &format!("UPDATE events SET {change}")).await;
        assert_eq!(refused, ("23514".to_owned(), "events_never_oversold".to_owned()), "{change}");
    }
    sql.execute("BEGIN; UPDATE events SET held = 4; UPDATE events SET capacity = 3, held = 2; ROLLBACK")
        .await
        .expect("what fits is let through");
    server.check_and_stop().await;
}

#[tokio::test]
async fn postgresql_refuses_a_second_live_reservation_of_a_user() {
    let server = with_a_show().await;
    let mut sql = server.sql().await;
    let twice = ("23505".to_owned(), "reservations_one_live_per_user".to_owned());
    for user in ["ann", "bob"] {
        for (state, expire_time) in
            [("HELD", "now() + interval '1h'"), ("HELD", "now() - interval '1h'"), ("CONFIRMED", "NULL")]
        {
            assert_eq!(refused_by(&mut sql, &insert(user, 1, state, expire_time)).await, twice, "{user} {state}");
        }
    }

    sql.execute("BEGIN").await.expect("a transaction can begin");
    for state in ["CANCELLED", "EXPIRED", "CANCELLED"] {
        sql.execute(AssertSqlSafe(insert("ann", 1, state, "NULL"))).await.expect("ended ones are no hindrance");
    }
    sql.execute("UPDATE reservations SET state = 'CANCELLED'").await.expect("they can be cancelled");
    sql.execute(AssertSqlSafe(insert("ann", 1, "CONFIRMED", "NULL"))).await.expect("and then inserted again");
    let revive = "UPDATE reservations SET state = 'CONFIRMED' WHERE state = 'CANCELLED' AND user_id = 'ann'";
    assert_eq!(refused_by(&mut sql, revive).await, twice, "the old one does not come back");
    sql.execute("ROLLBACK").await.expect("nothing of this happened");
    server.check_and_stop().await;
}

#[tokio::test]
async fn postgresql_refuses_rows_that_make_no_sense() {
    let server = with_a_show().await;
    let mut sql = server.sql().await;
    let change = |version: i64, columns: &str, values: &str| {
        format!(
            "INSERT INTO changes (event_id, version, kind, change_time{columns}) VALUES ('show', {version}, 'X', now(){values})"
        )
    };
    for (statement, constraint) in [
        (insert("cid", 0, "CONFIRMED", "NULL"), "reservations_quantity_positive"),
        (insert("cid", -1, "CONFIRMED", "NULL"), "reservations_quantity_positive"),
        ("UPDATE reservations SET quantity = quantity - 2".into(), "reservations_quantity_positive"),
        (insert("cid", 1, "HELD", "NULL"), "reservations_hold_expires"),
        (insert("cid", 1, "held", "now()"), "reservations_state_known"),
        ("UPDATE events SET state = 'GONE'".into(), "events_state_known"),
        (change(9, "", ""), "changes_subject"),
        (change(9, ", event, reservation_id", ", '{}', gen_random_uuid()"), "changes_subject"),
        (change(9, ", event, request_id", ", '{}', 'r'"), "changes_fingerprint"),
    ] {
        assert_eq!(refused_by(&mut sql, &statement).await, ("23514".to_owned(), constraint.to_owned()), "{statement}");
    }
    for (statement, constraint) in [
        (change(3, ", event", ", '{}'"), "changes_pkey"),
        ("INSERT INTO events SELECT * FROM events".into(), "events_pkey"),
        ("INSERT INTO reservations SELECT (r).* FROM (SELECT r FROM reservations r) s".into(), ""),
    ] {
        let (code, found) = refused_by(&mut sql, &statement).await;
        if constraint.is_empty() {
            assert_eq!(code, "428C9", "whether it is live is PostgreSQL's to say: {statement}");
        } else {
            assert_eq!((code.as_str(), found.as_str()), ("23505", constraint), "{statement}");
        }
    }

    let request = pb::ReserveRequest { request_id: "r".into(), ..reserve("show", "cid") };
    server.reserve(request).await.expect("there is room");
    let again = change(9, ", event, request_id, fingerprint", ", '{}', 'r', 'x'");
    assert_eq!(refused_by(&mut sql, &again).await, ("23505".to_owned(), "changes_request".to_owned()));
    server.check_and_stop().await;
}

/// A row that no snapshot of the code shows, because it is not committed yet.
#[tokio::test]
async fn a_double_booking_that_only_the_database_sees_is_already_reserved() {
    let server = with_a_show().await;
    for strategy in STRATEGIES {
        let mut sql = server.sql().await;
        sql.execute("BEGIN").await.expect("a transaction can begin");
        let stranger = insert("cid", 1, "CONFIRMED", "NULL") + " RETURNING reservation_id::text";
        let id: String = sqlx::query_scalar(AssertSqlSafe(stranger)).fetch_one(&mut sql).await.expect("it is new");
        let call = server.reserve(pb::ReserveRequest { options: with(strategy), ..reserve("show", "cid") });
        let commit = async {
            server.waiting(1).await;
            sql.execute("COMMIT").await.expect("it is committed first");
        };
        let (answer, ()) = tokio::join!(call, commit);
        let status = assert_refused(answer, Code::AlreadyExists, "ALREADY_RESERVED");
        assert_eq!(metadata(&status)["reservation_id"], id, "looking again, it finds whose");
        sql.execute("DELETE FROM reservations WHERE user_id = 'cid'").await.expect("the stranger can go");
    }
    server.check_and_stop().await;
}

/// Makes the first `times` new reservations fail with `sqlstate` and `constraint`.
async fn fail_with(sql: &mut PgConnection, sqlstate: &str, constraint: &str, times: i64) {
    let trigger = format!(
        "DROP SEQUENCE IF EXISTS tries; CREATE SEQUENCE tries;
         CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') > {times} THEN RETURN NEW; END IF;
             RAISE EXCEPTION 'duplicate key in relation of user ann' USING
                 ERRCODE = '{sqlstate}', CONSTRAINT = '{constraint}', TABLE = 'reservations',
                 DETAIL = 'Key (secret)', HINT = 'SELECT';
         END $$;
         CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION fail();"
    );
    sql.execute(sqlx::raw_sql(AssertSqlSafe(trigger))).await.expect("a trigger can be made");
}

#[tokio::test]
async fn errors_of_postgresql_never_reach_a_caller_as_sql() {
    let server = with_a_show().await;
    let mut sql = server.sql().await;
    for (sqlstate, constraint, code, why) in [
        ("23505", "reservations_one_live_per_user", Code::AlreadyExists, "ALREADY_RESERVED"),
        ("23505", "reservations_pkey", Code::Internal, "INTERNAL"),
        ("23514", "events_never_oversold", Code::Internal, "INTERNAL"),
        ("55P03", "", Code::Aborted, "LOCK_TIMEOUT"),
        ("57014", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("40001", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("40P01", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("25006", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("53100", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("57P01", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("58030", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("08006", "", Code::Unavailable, "DATABASE_UNAVAILABLE"),
        ("42P01", "", Code::Internal, "INTERNAL"),
        ("P0001", "", Code::Internal, "INTERNAL"),
    ] {
        fail_with(&mut sql, sqlstate, constraint, i64::MAX).await;
        for strategy in STRATEGIES {
            let request = pb::ReserveRequest { options: with(strategy), ..reserve("show", "cid") };
            let answer = soon("it gives up in time", server.reserve(request)).await;
            let status = assert_refused(answer, code, why);
            let told = format!("{status:?} {:?}", String::from_utf8_lossy(status.details()));
            for word in ["duplicate", "relation", "secret", "SELECT", "pkey", "one_live", "oversold", sqlstate] {
                assert!(!told.contains(word), "{sqlstate}: {told}");
            }
        }
    }
    sql.execute("DROP TRIGGER fail ON reservations").await.expect("the trigger can go");
    server.reserve(reserve("show", "cid")).await.expect("the connections are as good as new");
    server.check_and_stop().await;
}

#[tokio::test]
async fn transient_errors_are_repeated() {
    let server = TestServer::with(&PATIENT).await;
    server.event("roomy", 10).await;
    let mut sql = server.sql().await;
    for strategy in STRATEGIES {
        for (sqlstate, times) in [("40001", 1), ("40P01", 2)] {
            fail_with(&mut sql, sqlstate, "", times).await;
            let user = format!("{}-{times}", strategy.as_str_name());
            let request = pb::ReserveRequest { options: with(strategy), ..reserve("roomy", &user) };
            let answer = server.reserve(request).await.expect("the next attempt is spared");
            assert_eq!(i64::from(answer.execution.attempt_count), times + 1);
        }
    }
    server.check_and_stop().await;
}
