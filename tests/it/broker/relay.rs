//! Every change is published as a CloudEvent: after its commit, in the order of its event, and until the broker
//! confirms it.

use std::collections::BTreeSet;

use reservd::rpc::pb::{self, ChangeKind};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{
    AmqpQueue, Proxy, ReceivedChange, TestBroker, TestServer, assert_in_order, by_id, entry_of_user, eventually, join,
    millis, new_id, of_user, reserve, strict,
};

/// The history of an event from the API.
async fn history(server: &TestServer, event_id: &str) -> Vec<pb::Change> {
    let request = pb::ListChangesRequest { event_id: event_id.into(), page_size: 1000, ..Default::default() };
    let page = server.feed().list_changes(request).await.expect("a history can be listed").into_inner();
    assert_eq!(page.next_page_token, "", "it fits on a page");
    page.changes
}

/// The event and version of every change.
pub async fn places(sql: &mut PgConnection) -> BTreeSet<(String, i64)> {
    let places = sqlx::query_as("SELECT event_id, version FROM changes").fetch_all(sql).await;
    places.expect("the changes can be read").into_iter().collect()
}

/// The number of unpublished changes.
async fn waiting(sql: &mut PgConnection) -> i64 {
    let waiting = "SELECT count(*) FROM changes WHERE txid >= (SELECT delivered_below FROM relay)";
    sqlx::query_scalar(waiting).fetch_one(sql).await.expect("the outbox can be read")
}

/// One change of each kind, except those of the waitlist.
async fn live(server: &TestServer, event_id: &str) {
    let event_id = || event_id.to_owned();
    server.event(&event_id(), 10).await;
    let request = pb::ReserveRequest { quantity: 3, request_id: "take".into(), ..reserve(&event_id(), "ann") };
    server.reserve(request).await.expect("there is room");
    let ann = || of_user("ann");
    let request =
        pb::ExtendRequest { event_id: event_id(), reservation: ann(), ttl: millis(900_000), ..Default::default() };
    server.extend(request).await.expect("it is held");
    let request =
        pb::AmendRequest { event_id: event_id(), reservation: ann(), quantity: Some(4), ..Default::default() };
    server.amend(request).await.expect("there is room");
    let request = pb::CancelRequest {
        event_id: event_id(),
        reservation: ann(),
        quantity: Some(1),
        request_id: new_id(),
        ..Default::default()
    };
    server.cancel(request).await.expect("it has more than one");
    let request = pb::ConfirmRequest { event_id: event_id(), reservation: ann(), ..Default::default() };
    server.confirm(request).await.expect("it is held");
    let request = pb::ReserveRequest { hold_ttl: millis(100), ..reserve(&event_id(), "bob") };
    let held = server.reserve(request).await.expect("there is room").reservation;
    eventually("the hold lapses", async || {
        let request = pb::GetReservationRequest { event_id: event_id(), reservation: by_id(&held.reservation_id) };
        let found = server.reservations().get_reservation(request).await.expect("it is there").into_inner();
        found.reservation.expect("a reservation").state() == pb::ReservationState::Expired
    })
    .await;
    let mut events = server.events();
    let close = pb::CloseEventRequest { event_id: event_id(), ..Default::default() };
    events.close_event(close).await.expect("it is open");
    let open = pb::OpenEventRequest { event_id: event_id(), ..Default::default() };
    events.open_event(open).await.expect("it is closed");
    let event = pb::Event { event_id: event_id(), capacity: 20, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["capacity".into()] });
    let update = pb::UpdateEventRequest { event: Some(event), update_mask, ..Default::default() };
    events.update_event(update).await.expect("it can be larger");
    let cancel = pb::CancelEventRequest { event_id: event_id(), reason: "rain".into(), ..Default::default() };
    events.cancel_event(cancel).await.expect("it can be called off");
}

const KEYS: [(ChangeKind, &str); 12] = [
    (ChangeKind::EventCreated, "event.created"),
    (ChangeKind::EventUpdated, "event.updated"),
    (ChangeKind::EventOpened, "event.opened"),
    (ChangeKind::EventClosed, "event.closed"),
    (ChangeKind::EventCancelled, "event.cancelled"),
    (ChangeKind::ReservationHeld, "reservation.held"),
    (ChangeKind::ReservationConfirmed, "reservation.confirmed"),
    (ChangeKind::ReservationExtended, "reservation.extended"),
    (ChangeKind::ReservationAmended, "reservation.amended"),
    (ChangeKind::ReservationReduced, "reservation.reduced"),
    (ChangeKind::ReservationCancelled, "reservation.cancelled"),
    (ChangeKind::ReservationExpired, "reservation.expired"),
];

#[tokio::test]
async fn every_change_is_published_as_a_cloud_event_by_its_kind() {
    for (format, content_type) in [("JSON", "application/json"), ("PROTOBUF", "application/protobuf")] {
        let broker = TestBroker::new().await;
        let mut queue = AmqpQueue::open(&broker, &["#"]).await;
        let settings = [&broker.settings()[..], &[("broker.format", format), ("broker.source", "/here")]].concat();
        let server = TestServer::with(&settings).await;
        live(&server, "a:show").await;

        let changes = history(&server, "a:show").await;
        let received = queue.take(changes.len()).await;
        assert_in_order(&received);
        let mut kinds = BTreeSet::new();
        for (message, change) in received.into_iter().zip(changes) {
            assert_eq!(message.change, change, "it equals the history");
            let (_, key) = KEYS[KEYS.iter().position(|(kind, _)| *kind == change.kind()).expect("a known kind")];
            kinds.insert(key);
            assert_eq!((message.routing_key.as_str(), message.content_type.as_str()), (key, content_type));
            assert!(message.is_persistent);
            assert_attributes(&message, &change);
        }
        assert_eq!(kinds.len(), KEYS.len(), "of every kind: {kinds:?}");
        assert_eq!(server.metric("reservd_relay_returned_total").await, 0.0);
        server.check_and_stop().await;
    }
}

#[tokio::test]
async fn changes_of_the_waitlist_are_published_too() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["waitlist.#"]).await;
    let server = TestServer::with(&broker.settings()).await;
    server.event_with_waitlist("e", 1, strict()).await;
    server.reservations().reserve(reserve("e", "ann")).await.expect("there is room");
    for user in ["bob", "cid", "dan"] {
        server.join(join("e", user, 1)).await.expect("the event has a waitlist");
    }
    let leave = pb::LeaveWaitlistRequest { event_id: "e".into(), entry: entry_of_user("cid"), ..Default::default() };
    server.leave(leave).await.expect("the user waits");
    let cancel = pb::CancelRequest { event_id: "e".into(), reservation: of_user("ann"), ..Default::default() };
    server.reservations().cancel(cancel).await.expect("she has a place");
    let end = pb::CancelEventRequest { event_id: "e".into(), ..Default::default() };
    server.events().cancel_event(end).await.expect("it can be called off");

    let told: Vec<_> = queue.take(6).await.into_iter().map(|message| message.routing_key).collect();
    let ends = ["waitlist.left", "waitlist.promoted", "waitlist.ended"];
    assert_eq!(told, [&["waitlist.joined"; 3][..], &ends].concat());
    server.check_and_stop().await;
}

fn assert_attributes(message: &ReceivedChange, change: &pb::Change) {
    let attribute = |name: &str| message.attributes.get(name).map_or("", String::as_str);
    assert_eq!(attribute("specversion"), "1.0");
    assert_eq!(attribute("id"), format!("a:show/{}", change.version));
    assert_eq!(attribute("source"), "/here");
    assert_eq!(attribute("type"), format!("reservd.v1.{}", message.routing_key));
    let subject = match &change.subject {
        Some(pb::change::Subject::Reservation(reservation)) => reservation.reservation_id.as_str(),
        _ => "a:show",
    };
    assert_eq!(attribute("subject"), subject);
    let time = change.change_time.expect("every change has its time");
    let told = time::OffsetDateTime::parse(attribute("time"), &time::format_description::well_known::Rfc3339);
    assert_eq!(
        told.expect("RFC 3339").unix_timestamp_nanos() / 1000,
        i128::from(time.seconds) * 1_000_000 + i128::from(time.nanos / 1000)
    );
    assert_eq!(attribute("partitionkey"), "a:show");
    assert_eq!(attribute("sequence").parse(), Ok(change.version));
    assert_eq!(attribute("sequence").len(), 19, "it compares as text");
    assert_eq!(message.attributes.len(), 8);
}

/// A transaction of the test, which has its id from the start.
async fn begin(server: &TestServer) -> PgConnection {
    let mut sql = server.sql().await;
    sql.execute("BEGIN; SELECT pg_current_xact_id()").await.expect("a transaction can begin");
    sql
}

/// Writes the next change of an event like the server, and leaves the transaction open.
async fn change(sql: &mut PgConnection, event_id: &str) {
    let lock = sqlx::query("UPDATE events SET version = version + 1 WHERE event_id = $1").bind(event_id);
    lock.execute(&mut *sql).await.expect("the event can be updated");
    let write = "INSERT INTO changes (event_id, version, kind, change_time, event)
        SELECT c.event_id, e.version, 'EVENT_UPDATED', clock_timestamp(), c.event
          FROM events e JOIN changes c ON c.event_id = e.event_id AND c.version = 1 WHERE e.event_id = $1";
    sqlx::query(write).bind(event_id).execute(sql).await.expect("a change can be written");
}

async fn commit(mut sql: PgConnection) {
    sql.execute("COMMIT").await.expect("it can be committed");
    sql.close().await.expect("the connection can be closed");
}

#[tokio::test]
async fn versions_are_published_in_order_whatever_the_order_of_transactions() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let server = TestServer::with(&broker.settings()).await;
    for event_id in ["another", "show"] {
        server.event(event_id, 5).await;
        assert_eq!(queue.next().await.place(), (event_id.into(), 1));
    }

    // The first transaction to get an id is the second to get the lock; a third one in between stays open.
    let mut late = begin(&server).await;
    let mut other = begin(&server).await;
    let mut early = begin(&server).await;
    change(&mut other, "another").await;
    change(&mut early, "show").await;
    commit(early).await;
    change(&mut late, "show").await;
    commit(late).await;
    assert_eq!(queue.next().await.place(), ("show".into(), 2), "the order of their versions");
    assert_eq!(queue.next().await.place(), ("show".into(), 3));

    // Changes of the open transaction are not published, not lost, and not repeated.
    commit(other).await;
    assert_eq!(queue.next().await.place(), ("another".into(), 2));
    server.reserve(reserve("show", "ann")).await.expect("there is room");
    assert_eq!(queue.next().await.place(), ("show".into(), 4));
    let mut sql = server.sql().await;
    eventually("all is delivered", async || waiting(&mut sql).await == 0).await;
    assert_eq!(server.metric("reservd_relay_delivered_total").await, 6.0, "each once");
    server.check_and_stop().await;
}

#[tokio::test]
async fn uncommitted_changes_are_not_published() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let server = TestServer::with(&broker.settings()).await;
    server.event("show", 5).await;
    assert_eq!(queue.next().await.place().1, 1);
    let mut undone = begin(&server).await;
    change(&mut undone, "show").await;
    undone.execute("ROLLBACK").await.expect("it can be rolled back");
    server.reserve(reserve("show", "ann")).await.expect("there is room");
    let message = queue.next().await;
    assert_eq!(
        (message.place().1, message.change.kind()),
        (2, ChangeKind::ReservationHeld),
        "not the rolled back change"
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_cursor_waits_for_the_confirmation() {
    let broker = TestBroker::new().await;
    let proxy = Proxy::to(&broker.address()).await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let server = TestServer::with(&broker.through(proxy.address).settings()).await;
    server.event("show", 5).await;
    queue.next().await;
    let mut sql = server.sql().await;
    eventually("the first is delivered", async || waiting(&mut sql).await == 0).await;

    proxy.mute();
    server.reserve(reserve("show", "ann")).await.expect("the broker's silence costs no reservation");
    assert_eq!(queue.next().await.place().1, 2, "the message arrives");
    assert_eq!(waiting(&mut sql).await, 1, "but it is not confirmed yet");
    proxy.cut();
    proxy.open();
    let copy = queue.next().await;
    assert_eq!(copy.place().1, 2, "so it is sent again");
    eventually("it is delivered", async || waiting(&mut sql).await == 0).await;
    server.check_and_stop().await;
}

/// The stored changes that matched no queue.
async fn returned(server: &TestServer, filter: &str) -> Vec<(String, i64, String)> {
    let query = format!("SELECT event_id, version, routing_key FROM relay_returned {filter} ORDER BY event_id");
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&mut server.sql().await).await;
    rows.expect("they can be read")
}

#[tokio::test]
async fn returned_changes_are_counted_kept_and_republished_on_request() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["reservation.#"]).await;
    let server = TestServer::with(&broker.settings()).await;
    for number in 0..20 {
        let event_id = format!("show-{number:02}");
        server.event(&event_id, 5).await;
        server.reserve(reserve(&event_id, "ann")).await.expect("there is room");
    }
    let held = queue.take(20).await;
    assert!(held.iter().all(|message| message.routing_key == "reservation.held"));
    let mut sql = server.sql().await;
    eventually("all is delivered or kept", async || waiting(&mut sql).await == 0).await;
    let expected: Vec<_> = (0..20).map(|n| (format!("show-{n:02}"), 1, "event.created".to_owned())).collect();
    assert_eq!(returned(&server, "").await, expected, "those and no others");
    assert_eq!(server.metric("reservd_relay_returned_total").await, 20.0);

    let again = "UPDATE relay_returned SET republish = true WHERE event_id < 'show-02'";
    sql.execute(again).await.expect("it can be asked for");
    eventually("there is no queue for them still", async || returned(&server, "WHERE republish").await.is_empty())
        .await;
    assert_eq!(returned(&server, "").await, expected, "so they are kept");

    queue.bind("event.*").await;
    sql.execute(again).await.expect("it can be asked for");
    let found = queue.take(2).await;
    assert_eq!(
        found.iter().map(ReceivedChange::place).collect::<Vec<_>>(),
        [("show-00".into(), 1), ("show-01".into(), 1)]
    );
    eventually("they are not kept any more", async || returned(&server, "").await.len() == 18).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_costs_no_reservation_and_no_change() {
    let broker = TestBroker::new().await;
    let proxy = Proxy::to(&broker.address()).await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    proxy.cut();
    let settings = broker.through(proxy.address);
    // Windows of a few changes, so that there are many.
    let server = TestServer::with(&[&settings.settings()[..], &[("broker.relay_batch", "7")]].concat()).await;
    for round in 0..3 {
        proxy.cut();
        let events = [format!("a-{round}"), format!("b-{round}")];
        for event_id in &events {
            server.event(event_id, 100).await;
        }
        let calls = (0..60).map(|n| server.reserve(reserve(&events[n % 2], &format!("user-{n}"))));
        for answer in crate::support::all(calls).await {
            answer.expect("there is room, broker or not");
        }
        if round == 0 {
            eventually("the backlog is reported", async || {
                server.metric("reservd_relay_backlog_changes").await == 62.0
            })
            .await;
            assert!(server.metric("reservd_relay_lag_seconds").await > 0.0);
            assert_eq!(server.metric("reservd_relay_active").await, 0.0, "no server publishes");
        }
        proxy.open();
        let expected = places(&mut server.sql().await).await;
        let received =
            queue.until(expected.into_iter().filter(|(event_id, _)| events.contains(event_id)).collect()).await;
        let of_round: Vec<_> = received.into_iter().filter(|it| events.contains(&it.change.event_id)).collect();
        assert_in_order(&of_round);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn with_an_outbox_unpublished_changes_are_retained() {
    const OLD: &str = "UPDATE changes SET change_time = change_time - interval '2 days'";
    for (outbox, kept) in [("true", 3_i64), ("false", 1)] {
        let server = TestServer::with(&[("retention.changes", "24h"), ("broker.outbox", outbox)]).await;
        server.event("show", 5).await;
        for user in ["ann", "bob"] {
            server.reserve(reserve("show", user)).await.expect("there is room");
        }
        let mut sql = server.sql().await;
        sql.execute(OLD).await.expect("changes can be made old");
        // A server runs retention at startup.
        let twin = server.twin_with(&[("retention.changes", "24h"), ("broker.outbox", outbox)]).await;
        let count = "SELECT count(*) FROM changes";
        if kept == 1 {
            eventually("they are deleted", async || {
                sqlx::query_scalar::<_, i64>(count).fetch_one(&mut sql).await.expect("readable") == kept
            })
            .await;
        } else {
            // Published changes are deleted; unpublished ones stay.
            let deleted = reservd::store::changes::prune(&mut sql, std::time::Duration::from_secs(86_400), None, true);
            assert_eq!(deleted.await.expect("it can be looked for them").changes, 0);
            sql.execute("UPDATE relay SET delivered_below = pg_current_xact_id()::text::bigint").await.expect("moved");
            let deleted = reservd::store::changes::prune(&mut sql, std::time::Duration::from_secs(86_400), None, true);
            deleted.await.expect("it can be looked for them");
            // By this server or its twin, whose first run may be later.
            assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut sql).await.expect("readable"), 1);
        }
        twin.app.stop().await;
        // The history is truncated, which the usual final check would report as a loss.
        server.app.stop().await;
    }
}

#[tokio::test]
async fn tls_needs_a_trusted_certificate() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let by_tls = TestBroker { url: broker.tls_url.clone(), ..broker.clone() };
    let server = TestServer::with(&by_tls.settings()).await;
    server.event("show", 5).await;
    let failures = "reservd_broker_failures_total{part=\"relay\"}";
    eventually("it does not trust just any", async || server.metric(failures).await > 1.0).await;
    assert_eq!(server.metric("reservd_relay_active").await, 0.0);

    let trusting = [&by_tls.settings()[..], &[("broker.ca_file", broker.certificate.as_str())]].concat();
    let twin = server.twin_with(&trusting).await;
    assert_eq!(queue.next().await.place(), ("show".into(), 1));
    twin.app.stop().await;
    server.check_and_stop().await;
}
