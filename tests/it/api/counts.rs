//! How much of an event is taken: one form of counts everywhere, the service's clock, and counts over time.

use reservd::rpc::pb::{self, *};
use tonic::Code;

use crate::support::{TestServer, assert_refused, bad_fields, reserve};

#[tokio::test]
async fn events_availability_and_watches_have_the_same_counts() {
    let server = TestServer::with(&[("expiry.interval", "1h")]).await;
    server.event("e", 10).await;
    server.reserve(ReserveRequest { quantity: 4, ..reserve("e", "lapsing") }).await.expect("there is room");
    server.lapse_holds("e").await;
    server.reserve(ReserveRequest { quantity: 2, ..reserve("e", "ann") }).await.expect("there is room");
    server.reserve(ReserveRequest { confirm: true, ..reserve("e", "bob") }).await.expect("there is room");
    let now = EventCounts { capacity: 10, held: 6, lapsed: Some(4), confirmed: 1, available: 7, waiting: 0 };
    let recorded = EventCounts { lapsed: None, available: 3, ..now };

    let event = server.events().get_event(GetEventRequest { event_id: "e".into() }).await.expect("it").into_inner();
    assert_eq!(event.event.expect("it").counts, Some(now));
    let listed = server.events().list_events(ListEventsRequest::default()).await.expect("a page").into_inner();
    assert_eq!(listed.events[0].counts, Some(now));
    let request = GetAvailabilityRequest { event_id: "e".into() };
    let answer = server.events().get_availability(request).await.expect("it").into_inner();
    let availability = answer.availability.expect("it");
    assert_eq!((availability.counts, availability.next_hold_quantity), (Some(now), 2));
    let (_, snapshot) = server.watch("e").await;
    assert_eq!(snapshot.counts, Some(recorded));
    server.check_and_stop().await;
}

#[tokio::test]
async fn answers_tell_the_time_of_the_database() {
    let server = TestServer::start().await;
    server.event("e", 10).await;
    let made = server.reserve(reserve("e", "ann")).await.expect("there is room");
    let micros = |time: prost_types::Timestamp| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000;
    let told = micros(made.execution.server_time.expect("it is told"));
    let now: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        .fetch_one(&mut server.sql().await)
        .await
        .expect("the time can be read");
    let made_at = micros(made.reservation.create_time.expect("it has one"));
    // The clock is as exact as a round trip, which on a busy machine takes its time.
    assert!((made_at - 5_000_000..=now + 5_000_000).contains(&told), "{told} is far from {made_at} to {now}");
    server.check_and_stop().await;
}

fn counts_of(event_id: &str, window: i64, step: i64) -> ListEventCountsRequest {
    let minutes = |count: i64| Some(prost_types::Duration { seconds: 60 * count, nanos: 0 });
    ListEventCountsRequest { event_id: event_id.into(), window: minutes(window), step: minutes(step) }
}

#[tokio::test]
async fn counts_over_time_come_from_samples_and_end_with_now() {
    let server = TestServer::start().await;
    server.event("e", 10).await;
    let mut sql = server.sql().await;
    // As the worker would have written them: two, forty and fifty minutes ago.
    for (minutes, held) in [(50, 1), (40, 3), (2, 7)] {
        sqlx::query("INSERT INTO event_counts VALUES ('e', now() - make_interval(mins => $1), $2, 10, $2, 0, 0)")
            .bind(minutes)
            .bind(held)
            .execute(&mut sql)
            .await
            .expect("a sample");
    }
    server.reserve(ReserveRequest { quantity: 9, ..reserve("e", "ann") }).await.expect("there is room");
    let mut events = server.events();
    let answer = events.list_event_counts(counts_of("e", 60, 10)).await.expect("samples").into_inner();
    let held: Vec<_> = answer.samples.iter().map(|it| it.counts.unwrap_or_default().held).collect();
    assert!(held.starts_with(&[1]) && held.ends_with(&[9]), "{held:?}");
    assert!(held.is_sorted() && held.contains(&3), "{held:?}");
    let times: Vec<_> = answer.samples.iter().map(|it| it.sample_time.map(|time| time.seconds)).collect();
    assert!(times.is_sorted(), "{times:?}");

    let gone = events.list_event_counts(counts_of("gone", 60, 10)).await;
    assert_refused(gone, Code::NotFound, "EVENT_NOT_FOUND");
    let status =
        assert_refused(events.list_event_counts(counts_of("e", 2000, 1)).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), ["step"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_sample_is_taken_of_what_has_changed_and_of_nothing_else() {
    let server = TestServer::start().await;
    for id in ["changed", "quiet"] {
        server.event(id, 10).await;
    }
    let ledger = server.app.ledger();
    ledger.sample_event_counts().await.expect("sampled");
    server.reserve(reserve("changed", "ann")).await.expect("there is room");
    ledger.sample_event_counts().await.expect("sampled");
    ledger.sample_event_counts().await.expect("nothing is left to sample");
    let sampled: Vec<(String, i64, i32)> =
        sqlx::query_as("SELECT event_id, version, held FROM event_counts WHERE version > 1")
            .fetch_all(&mut server.sql().await)
            .await
            .expect("samples can be read");
    assert_eq!(sampled, [("changed".to_owned(), 2, 1)]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn ids_of_series_and_venues_are_ids_and_have_names_beside() {
    let server = TestServer::start().await;
    let event = pb::Event {
        event_id: "e".into(),
        series_id: "swan-lake".into(),
        series_display_name: "Swan Lake".into(),
        venue_id: "opera:main".into(),
        venue_display_name: "Opera, main hall".into(),
        ..Default::default()
    };
    let made = server.event_with(event.clone()).await;
    assert_eq!(
        (made.series_display_name, made.venue_display_name),
        (event.series_display_name.clone(), event.venue_display_name.clone())
    );
    for (field, event) in [
        ("event.event_id", pb::Event { event_id: "a/b".into(), ..event.clone() }),
        ("event.series_id", pb::Event { series_id: "Swan Lake".into(), ..event.clone() }),
        ("event.venue_id", pb::Event { venue_id: "-".into(), ..event.clone() }),
    ] {
        let request = CreateEventRequest { event: Some(event), ..Default::default() };
        let status = server.events().create_event(request).await;
        let status = assert_refused(status, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(bad_fields(&status), [field]);
    }
    server.reserve(reserve("e", &format!("auth0|{}", "x".repeat(249)))).await.expect_err("no room, but a good id");
    server.check_and_stop().await;
}
