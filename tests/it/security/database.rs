//! The database with least privilege: the service runs with a role that can only read and write rows.

use sqlx::{Connection, Executor, PgConnection, raw_sql};

use crate::support::{
    TestDatabase,
    process::{Process, clients, finish, program},
    reserve,
};

const SCRIPT: &str = include_str!("../../../deploy/roles.sql");

/// The database's URL for another role.
fn url_of(database: &TestDatabase, role: &str) -> String {
    let (before, after) = database.url.split_once("://").expect("a URL");
    let rest = after.rsplit_once('@').map_or(after, |(_, rest)| rest);
    let (path, query) = rest.split_once('?').expect("a socket folder");
    let query: Vec<_> = query.split('&').filter(|part| !part.starts_with("user=")).collect();
    format!("{before}://{path}?{}&user={role}", query.join("&"))
}

#[tokio::test]
async fn the_service_runs_with_a_role_that_can_change_rows_and_nothing_else() {
    let database = TestDatabase::unmigrated().await;
    let mut admin = database.connect().await;
    for _ in 0..2 {
        admin.execute(raw_sql(SCRIPT)).await.expect("the script runs, and again");
    }
    let mut migrate = program(["migrate"]);
    migrate.env("DATABASE_URL", url_of(&database, "reservd_owner"));
    let said = finish(migrate).await;
    assert_eq!(said.code, Some(0), "{said:?}");

    let server = Process::on(&url_of(&database, "reservd_app"), &["database.migrate=false"]).await;
    let (mut events, mut reservations) = clients(&server.connect().await);
    let event = reservd::rpc::pb::Event { event_id: "concert".into(), capacity: 2, ..Default::default() };
    let create = reservd::rpc::pb::CreateEventRequest { event: Some(event), ..Default::default() };
    events.create_event(create).await.expect("it writes events");
    for strategy in crate::support::STRATEGIES {
        let options = crate::support::with(strategy);
        let wish = reservd::rpc::pb::ReserveRequest { options, ..reserve("concert", "ann") };
        reservations.reserve(wish).await.expect("it writes reservations");
        let cancel = reservd::rpc::pb::CancelRequest {
            event_id: "concert".into(),
            reservation: crate::support::of_user("ann"),
            options,
            ..Default::default()
        };
        reservations.cancel(cancel).await.expect("and changes them");
    }
    let verify = reservd::rpc::pb::VerifyEventRequest { event_id: "concert".into() };
    assert!(events.verify_event(verify).await.expect("it reads").into_inner().ok);
    server.stop().await;

    let app = database.options.clone().username("reservd_app");
    let mut app = PgConnection::connect_with(&app).await.expect("the role may connect");
    for forbidden in [
        "DROP TABLE changes",
        "ALTER TABLE events DROP CONSTRAINT events_never_oversold",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "TRUNCATE reservations",
        "CREATE TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP INDEX reservations_one_live_per_user",
        "CREATE ROLE mine SUPERUSER",
        "SET ROLE reservd_owner",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY events TO PROGRAM 'cat'",
    ] {
        let refused = app.execute(forbidden).await.expect_err(forbidden);
        let code = refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{forbidden}: {refused}");
    }
    for (setting, value) in
        [("statement_timeout", "2min"), ("lock_timeout", "2min"), ("idle_in_transaction_session_timeout", "30s")]
    {
        let sql = "SELECT current_setting($1)";
        let found: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&mut app).await.expect("it can be read");
        assert_eq!(found, value, "{setting}");
    }
}
