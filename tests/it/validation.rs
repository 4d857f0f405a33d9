//! Bad input: every bad field is named by its path, nothing is changed, and no error is internal.

mod fields;
mod whole;

use sqlx::PgConnection;
use tonic::Code;

use crate::support::{Call, TestServer, bad_fields, reason};

/// A bad request, and the paths of the fields that are bad in it.
type Case = (Call, Vec<String>);

fn case(call: impl Into<Call>, bad: &[&str]) -> Case {
    (call.into(), bad.iter().map(ToString::to_string).collect())
}

/// Sends each request to a server with an open event `good`, and checks that it is refused for all of its bad fields,
/// and that no request had an effect.
async fn assert_all_invalid(cases: Vec<Case>) {
    let server = TestServer::start().await;
    server.event("good", 10).await;
    server.reservations().reserve(crate::support::reserve("good", "ann")).await.expect("there is room");
    let mut sql = server.sql().await;
    let before = digest(&mut sql).await;
    for (call, bad) in cases {
        let asked = short(&call);
        let status = call.send(&server).await.expect_err(&asked);
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"), "{asked}");
        assert_eq!(bad_fields(&status), bad, "{asked}: {}", status.message());
        let named = bad.iter().all(|field| status.message().contains(field.as_str()));
        assert!(named, "the message names the fields as well: {asked}: {}", status.message());
    }
    assert_eq!(digest(&mut sql).await, before, "a request that was refused changed something");
    server.check_and_stop().await;
}

/// A digest of all rows.
async fn digest(sql: &mut PgConnection) -> Option<String> {
    const SQL: &str = "SELECT md5(string_agg(row, '' ORDER BY row)) FROM (
        SELECT e::text AS row FROM events e UNION ALL SELECT r::text FROM reservations r
        UNION ALL SELECT c::text FROM changes c) everything";
    sqlx::query_scalar(SQL).fetch_one(sql).await.expect("the tables can be read")
}

/// A request as text for people, cut if it is long.
fn short(call: &Call) -> String {
    format!("{call:?}").chars().take(600).collect()
}
