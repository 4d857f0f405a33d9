//! The server's role in PostgreSQL: it may do what the server does, and nothing else.

use prost_types::FieldMask;
use reservd::{
    rpc::pb::{
        self,
        diagnostics::{self, run_concurrency_test_response::Update},
    },
    store::schema,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, raw_sql};
use tokio::sync::Mutex;

use crate::support::{
    AmqpQueue, Call, STRATEGIES, TestBroker, TestDatabase, TestServer, entry_of_user, eventually, join, millis, new_id,
    of_user, reserve, strict, with,
};

const ROLES: &str = include_str!("../../../deploy/roles.sql");
const GRANTS: &str = include_str!("../../../deploy/grants.sql");
/// Roles belong to the whole cluster, and two sessions can't change one at the same time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A database that is set up as documented, with the URL of the server's role. The test itself is a superuser.
async fn prepared() -> TestDatabase {
    let mut database = TestDatabase::unmigrated().await;
    let _turn = TURN.lock().await;
    let mut admin = database.connect().await;
    for _ in 0..2 {
        admin.execute(raw_sql(ROLES)).await.expect("the roles are made, and again");
    }
    let owner = database.options.clone().username("reservd_owner");
    schema::migrate(&owner).await.expect("the owner may migrate");
    let mut owner = PgConnection::connect_with(&owner).await.expect("the owner may connect");
    for _ in 0..2 {
        owner.execute(raw_sql(GRANTS)).await.expect("the owner may grant, and again");
    }
    database.url = url_of(&database, "reservd_app");
    database
}

/// The URL of the database for another role.
fn url_of(database: &TestDatabase, role: &str) -> String {
    let (before, after) = database.url.split_once("://").expect("a URL");
    let rest = after.rsplit_once('@').map_or(after, |(_, rest)| rest);
    let (path, query) = rest.split_once('?').expect("a socket folder");
    let query: Vec<_> = query.split('&').filter(|part| !part.starts_with("user=")).collect();
    format!("{before}://{path}?{}&user={role}", query.join("&"))
}

/// Creates an event, deletes it, creates it again, and another one.
fn creations(event_id: &str) -> Vec<Call> {
    let event = |event_id: String| pb::Event { event_id, capacity: 2, waitlist: Some(strict()), ..Default::default() };
    let create = |event| pb::CreateEventRequest { event: Some(event), ..Default::default() };
    let requests = vec![create(event(format!("{event_id}-2")))];
    vec![
        create(event(event_id.to_owned())).into(),
        pb::DeleteEventRequest { event_id: event_id.to_owned(), ..Default::default() }.into(),
        create(event(event_id.to_owned())).into(),
        pb::BatchCreateEventsRequest { requests, ..Default::default() }.into(),
    ]
}

/// Every mutation of reservations and the waitlist, by this strategy.
fn mutations(event_id: &str, strategy: pb::ExecutionStrategy) -> Vec<Call> {
    let (event_id, options, reservation) = (|| event_id.to_owned(), with(strategy), || of_user("ann"));
    let request_id = format!("take-{strategy:?}");
    let take = pb::ReserveRequest { options, request_id, ..reserve(&event_id(), "ann") };
    let extend = pb::ExtendRequest { event_id: event_id(), reservation: reservation(), options, ..Default::default() };
    let amend = pb::AmendRequest { event_id: event_id(), reservation: reservation(), options, ..Default::default() };
    let leave = pb::LeaveWaitlistRequest { event_id: event_id(), options, ..Default::default() };
    let amend_entry = pb::AmendWaitlistEntryRequest { event_id: event_id(), options, ..Default::default() };
    let cancel = pb::CancelRequest { event_id: event_id(), reservation: reservation(), options, ..Default::default() };
    let confirm =
        pb::ConfirmRequest { event_id: event_id(), reservation: reservation(), options, ..Default::default() };
    vec![
        take.clone().into(),
        take.into(),
        pb::ExtendRequest { ttl: millis(900_000), ..extend }.into(),
        pb::AmendRequest { quantity: Some(2), ..amend }.into(),
        join(&event_id(), "bob", 1).into(),
        join(&event_id(), "eve", 2).into(),
        pb::AmendWaitlistEntryRequest { entry: entry_of_user("eve"), quantity: Some(1), ..amend_entry }.into(),
        pb::LeaveWaitlistRequest { entry: entry_of_user("eve"), ..leave }.into(),
        pb::CancelRequest { quantity: Some(1), request_id: new_id(), ..cancel.clone() }.into(),
        confirm.into(),
        cancel.into(),
    ]
}

/// The other requests about an event.
fn others(event_id: &str) -> Vec<Call> {
    let event_id = || event_id.to_owned();
    let event = pb::Event { event_id: event_id(), display_name: "Larger".into(), capacity: 3, ..Default::default() };
    let update_mask = Some(FieldMask { paths: vec!["display_name".into(), "capacity".into()] });
    vec![
        pb::UpdateEventRequest { event: Some(event), update_mask, ..Default::default() }.into(),
        pb::CloseEventRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::OpenEventRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::GetEventRequest { event_id: event_id() }.into(),
        pb::ListEventsRequest::default().into(),
        pb::GetAvailabilityRequest { event_id: event_id() }.into(),
        pb::BatchGetAvailabilityRequest { event_ids: vec![event_id()] }.into(),
        pb::GetReservationRequest { event_id: event_id(), reservation: of_user("ann") }.into(),
        pb::ListReservationsRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::GetWaitlistEntryRequest { event_id: event_id(), entry: entry_of_user("bob") }.into(),
        pb::ListWaitlistRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::ListChangesRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::SearchReservationsRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::ListEventCountsRequest { event_id: event_id(), ..Default::default() }.into(),
        pb::GetCallerRequest {}.into(),
        pb::VerifyEventRequest { event_id: event_id() }.into(),
        pb::CancelEventRequest { event_id: event_id(), ..Default::default() }.into(),
    ]
}

#[tokio::test]
async fn the_servers_role_is_enough_for_every_rpc() {
    let server = TestServer::on(prepared().await, &[("database.migrate", "false")]).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        for call in [creations(event_id), mutations(event_id, strategy), others(event_id)].concat() {
            let shown = format!("{call:?}");
            call.send(&server).await.unwrap_or_else(|status| panic!("{shown}: {status}"));
        }
        assert_eq!(server.promoted(event_id).await, ["bob"]);
        server.watch(event_id).await;
        let test = diagnostics::RunConcurrencyTestRequest {
            strategy: strategy.into(),
            operation_count: 20,
            ..Default::default()
        };
        let mut test = server.diagnostics().run_concurrency_test(test).await.expect("it starts").into_inner();
        let mut report = None;
        while let Some(message) = test.message().await.expect("it goes on") {
            report = message.update;
        }
        let Some(Update::Report(report)) = report else { panic!("no report: {report:?}") };
        assert!(report.invariants_held && report.success_count > 0, "{report:?}");
    }
    server.app.ledger().sample_event_counts().await.expect("counts can be sampled");
    let report = diagnostics::GetContentionReportRequest::default();
    server.diagnostics().get_contention_report(report).await.expect("it can be read");
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_servers_role_is_enough_for_every_worker() {
    let (database, broker) = (prepared().await, TestBroker::new().await);
    let mut queue = AmqpQueue::open(&broker, &["reservation.*"]).await;
    let settings = [
        &broker.settings()[..],
        &[("database.migrate", "false"), ("expiry.interval", "20ms"), ("waitlist.promotion_interval", "5ms")],
        &[("retention.changes", "24h"), ("retention.ended_reservations", "24h")],
    ]
    .concat();
    let server = TestServer::on(database, &settings).await;
    let mut sql = server.sql().await;
    // Expiry, and promotion in its transaction.
    server.event_with_waitlist("e", 1, strict()).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    server.join(join("e", "eve", 1)).await.expect("it is sold out");
    sql.execute("UPDATE reservations SET expire_time = now()").await.expect("time can be made to pass");
    eventually("bob is promoted", async || server.promoted("e").await == ["bob"]).await;
    // Promotion by the clock alone: the room is made behind the server's back.
    sql.execute("UPDATE events SET capacity = 2").await.expect("it can be larger");
    eventually("eve is promoted", async || server.promoted("e").await == ["bob", "eve"]).await;
    // The relay: what has no queue is kept, and published again once it has one.
    while queue.next().await.change.kind() != pb::ChangeKind::ReservationExpired {}
    let returned = "SELECT count(*) FROM relay_returned";
    let mut sql = server.sql().await;
    let mut kept = async || sqlx::query_scalar::<_, i64>(returned).fetch_one(&mut sql).await.expect("it can be read");
    eventually("changes without a queue are kept", async || kept().await > 0).await;
    queue.bind("#").await;
    let again = "UPDATE relay_returned SET republish = true";
    eventually("they are published again", async || {
        server.sql().await.execute(again).await.expect("it can be asked for");
        kept().await == 0
    })
    .await;
    let mut sql = server.sql().await;
    let undelivered = "SELECT count(*) FROM changes WHERE txid >= (SELECT delivered_below FROM relay)";
    eventually("every change is delivered", async || {
        sqlx::query_scalar::<_, i64>(undelivered).fetch_one(&mut sql).await.expect("it can be read") == 0
    })
    .await;
    // Retention. Of an event's changes the newest stays.
    for old in [
        "UPDATE changes SET change_time = change_time - interval '2 days'",
        "UPDATE reservations SET update_time = update_time - interval '2 days'",
        "UPDATE waitlist SET update_time = update_time - interval '2 days'",
        "INSERT INTO relay_returned VALUES ('e', 1, 'x', now() - interval '2 days')",
    ] {
        sql.execute(old).await.expect("rows can be made old");
    }
    let twin = server.twin_with(&settings).await;
    let left = "SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM reservations WHERE live IS NULL),
                       (SELECT count(*) FROM waitlist), (SELECT count(*) FROM relay_returned)";
    eventually("old rows are deleted", async || {
        let left: (i64, i64, i64, i64) = sqlx::query_as(left).fetch_one(&mut sql).await.expect("they can be counted");
        left == (1, 0, 0, 0)
    })
    .await;
    assert_eq!(server.metric("reservd_worker_failures_total").await, 0.0);
    twin.app.stop().await;
    // The history begins late now, which the final check would take for a loss.
    server.app.stop().await;
}

/// What would change the schema, rewrite history, or reach beyond the ledger.
const FORBIDDEN: [&str; 41] = [
    "DROP TABLE changes",
    "ALTER TABLE events DROP CONSTRAINT events_never_oversold",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE changes DISABLE ROW LEVEL SECURITY",
    "DROP INDEX reservations_one_live_per_user",
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER mine BEFORE UPDATE ON events EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE ROLE mine SUPERUSER",
    "SET ROLE reservd_owner",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY events TO PROGRAM 'cat'",
    "TRUNCATE events",
    "TRUNCATE reservations",
    "TRUNCATE waitlist",
    "TRUNCATE changes",
    "TRUNCATE relay",
    "TRUNCATE relay_returned",
    "TRUNCATE _sqlx_migrations",
    "DELETE FROM events",
    "UPDATE events SET event_id = 'x'",
    "UPDATE reservations SET event_id = 'x'",
    "UPDATE reservations SET reservation_id = gen_random_uuid()",
    "UPDATE waitlist SET user_id = 'x'",
    "UPDATE waitlist SET ticket = 0",
    "UPDATE waitlist SET create_time = now()",
    "UPDATE changes SET actor = 'token:other'",
    "UPDATE changes SET change_time = now()",
    "UPDATE changes SET txid = 0",
    "SELECT FROM changes FOR UPDATE",
    "INSERT INTO changes (event_id, version, kind, change_time, txid) VALUES ('x', 1, 'x', now(), 0)",
    "INSERT INTO changes (event_id, version, kind, change_time, event)
     VALUES ('x', 1, 'x', now() - interval '2 hours', '{}')",
    "DELETE FROM relay",
    "UPDATE relay SET one = true",
    "UPDATE relay_returned SET routing_key = 'x'",
    "INSERT INTO relay_returned (event_id, version, routing_key, return_time) VALUES ('x', 1, 'x', now())",
    "INSERT INTO _sqlx_migrations VALUES (9, 'x', now(), true, '', 0)",
    "UPDATE _sqlx_migrations SET checksum = ''",
    "DELETE FROM _sqlx_migrations",
    "SELECT FROM _sqlx_migrations FOR UPDATE",
];

#[tokio::test]
async fn the_servers_role_can_do_nothing_else() {
    let server = TestServer::on(prepared().await, &[("database.migrate", "false")]).await;
    server.event_with_waitlist("e", 1, strict()).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    let app = server.database.options.clone().username("reservd_app");
    let mut app = PgConnection::connect_with(&app).await.expect("the role may connect");
    for forbidden in FORBIDDEN {
        let done = app.execute(forbidden).await;
        let refused = done.expect_err(forbidden);
        let code = refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{forbidden}: {refused}");
    }
    // What retention may not delete yet, it does not find.
    for kept in ["changes", "reservations", "waitlist"] {
        let delete = format!("DELETE FROM {kept}");
        let deleted = app.execute(AssertSqlSafe(delete)).await.expect("retention deletes");
        assert_eq!(deleted.rows_affected(), 0, "{kept}");
    }
    for (setting, value) in
        [("statement_timeout", "2min"), ("lock_timeout", "2min"), ("idle_in_transaction_session_timeout", "30s")]
    {
        let sql = "SELECT current_setting($1)";
        let found: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&mut app).await.expect("it can be read");
        assert_eq!(found, value, "{setting}");
    }
    server.check_and_stop().await;
}
