//! UpdateEvent: masks, limits, capacity.

use prost_types::FieldMask;
use reservd::rpc::pb::{self, *};
use tonic::Code;

use super::{at, event};
use crate::support::{TestServer, assert_refused, metadata, millis, reserve};

fn update(event: pb::Event, paths: &[&str]) -> UpdateEventRequest {
    let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
    UpdateEventRequest { event: Some(event), update_mask: Some(mask), ..Default::default() }
}

async fn updated(server: &TestServer, request: UpdateEventRequest) -> pb::Event {
    let answer = server.events().update_event(request).await.expect("updated").into_inner();
    let event = answer.event.expect("the answer has the event");
    assert_eq!(server.get_event(&event.event_id).await, event);
    event
}

/// Two versions of an event in which every field is set.
fn versions() -> (pb::Event, pb::Event) {
    let limits = |n: i32| {
        Some(EventLimits {
            max_quantity: Some(n),
            hold_ttl_default: millis(1000 * i64::from(n)),
            hold_ttl_max: millis(9000 * i64::from(n)),
            max_extensions: Some(n),
        })
    };
    let version = |n: i32| pb::Event {
        display_name: format!("name {n}"),
        series_id: format!("series-{n}"),
        venue_id: format!("venue-{n}"),
        series_display_name: format!("Series {n}"),
        venue_display_name: format!("Venue {n}"),
        start_time: at(1000 + i64::from(n)),
        end_time: at(2000 + i64::from(n)),
        booking_open_time: at(100 + i64::from(n)),
        booking_close_time: at(4_000_000_000 + i64::from(n)),
        labels: [("n".to_owned(), n.to_string())].into(),
        limits: limits(n),
        ..event("e", 10 * n)
    };
    (version(1), version(2))
}

/// The fields of an event that a client sets, without those that the server adds.
fn said(event: &pb::Event) -> pb::Event {
    pb::Event {
        state: 0,
        counts: None,
        version: 0,
        definition_version: 0,
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..event.clone()
    }
}

#[tokio::test]
async fn each_path_of_a_mask_changes_its_field_and_no_other() {
    let server = TestServer::start().await;
    let (old, new) = versions();
    server.event_with(old.clone()).await;
    let limits = |change: fn(&mut EventLimits, &EventLimits)| {
        move |to: &mut pb::Event, from: &pb::Event| {
            change(to.limits.as_mut().expect("limits"), from.limits.as_ref().expect("limits"));
        }
    };
    type Change<'a> = Box<dyn Fn(&mut pb::Event, &pb::Event) + 'a>;
    let paths: Vec<(&str, Change<'_>)> = vec![
        ("display_name", Box::new(|to, from| to.display_name.clone_from(&from.display_name))),
        ("series_id", Box::new(|to, from| to.series_id.clone_from(&from.series_id))),
        ("venue_id", Box::new(|to, from| to.venue_id.clone_from(&from.venue_id))),
        ("series_display_name", Box::new(|to, from| to.series_display_name.clone_from(&from.series_display_name))),
        ("venue_display_name", Box::new(|to, from| to.venue_display_name.clone_from(&from.venue_display_name))),
        ("start_time", Box::new(|to, from| to.start_time = from.start_time)),
        ("end_time", Box::new(|to, from| to.end_time = from.end_time)),
        ("booking_open_time", Box::new(|to, from| to.booking_open_time = from.booking_open_time)),
        ("booking_close_time", Box::new(|to, from| to.booking_close_time = from.booking_close_time)),
        ("labels", Box::new(|to, from| to.labels.clone_from(&from.labels))),
        ("capacity", Box::new(|to, from| to.capacity = from.capacity)),
        ("limits", Box::new(|to, from| to.limits = from.limits)),
        ("limits.max_quantity", Box::new(limits(|to, from| to.max_quantity = from.max_quantity))),
        ("limits.hold_ttl_default", Box::new(limits(|to, from| to.hold_ttl_default = from.hold_ttl_default))),
        ("limits.hold_ttl_max", Box::new(limits(|to, from| to.hold_ttl_max = from.hold_ttl_max))),
        ("limits.max_extensions", Box::new(limits(|to, from| to.max_extensions = from.max_extensions))),
        ("*", Box::new(|to, from| to.clone_from(from))),
    ];
    for (path, change) in paths {
        let mut expected = old.clone();
        change(&mut expected, &new);
        assert_eq!(said(&updated(&server, update(new.clone(), &[path])).await), expected, "{path}");
        // Without a mask, the set fields count; here all are set.
        assert_eq!(said(&updated(&server, update(old.clone(), &[])).await), old, "{path}");
    }
    let both = updated(&server, update(new.clone(), &["venue_id", "capacity"])).await;
    assert_eq!(said(&both), pb::Event { venue_id: new.venue_id, capacity: new.capacity, ..old });
    server.check_and_stop().await;
}

#[tokio::test]
async fn without_a_mask_only_set_fields_change() {
    let server = TestServer::start().await;
    let (old, _) = versions();
    server.event_with(old.clone()).await;
    let limits = Some(EventLimits { max_extensions: Some(0), ..Default::default() });
    let request = pb::Event { venue_id: "new".into(), limits, ..event("e", 0) };
    let mut expected = pb::Event { venue_id: "new".into(), ..old };
    expected.limits.as_mut().expect("limits").max_extensions = Some(0);
    assert_eq!(said(&updated(&server, update(request, &[])).await), expected);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_masked_field_that_is_not_set_is_cleared() {
    let server = TestServer::start().await;
    let (old, _) = versions();
    server.event_with(old.clone()).await;
    let paths = [
        "display_name",
        "series_id",
        "series_display_name",
        "venue_id",
        "venue_display_name",
        "start_time",
        "end_time",
        "booking_open_time",
        "booking_close_time",
        "labels",
    ];
    let cleared = updated(&server, update(event("e", 0), &paths)).await;
    assert_eq!(said(&cleared), pb::Event { limits: old.limits, ..event("e", 10) });
    // A cleared limit gets the documented default again; a capacity can't be cleared.
    let cleared = updated(&server, update(event("e", 0), &["limits", "capacity"])).await;
    let limits = cleared.limits.expect("limits");
    assert_eq!((cleared.capacity, limits.max_quantity, limits.max_extensions), (0, Some(10_000), Some(3)));
    assert_eq!((limits.hold_ttl_default, limits.hold_ttl_max), (millis(600_000), millis(3_600_000)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_time_of_holds_that_nobody_set_follows_the_other_after_an_update_as_after_a_creation() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let limits = |hold_ttl_default, hold_ttl_max| {
        let limits = EventLimits { hold_ttl_default, hold_ttl_max, ..Default::default() };
        pb::Event { limits: Some(limits), ..event("e", 0) }
    };
    for (path, default, max, expected) in [
        ("limits.hold_ttl_max", None, millis(60_000), (millis(60_000), millis(60_000))),
        ("limits.hold_ttl_max", None, millis(30_000), (millis(30_000), millis(30_000))),
        ("limits.hold_ttl_max", None, None, (millis(600_000), millis(3_600_000))),
        ("limits.hold_ttl_default", millis(7_200_000), None, (millis(7_200_000), millis(7_200_000))),
        ("limits.hold_ttl_default", None, None, (millis(600_000), millis(3_600_000))),
    ] {
        let event = updated(&server, update(limits(default, max), &[path])).await;
        let limits = event.limits.expect("limits");
        assert_eq!((limits.hold_ttl_default, limits.hold_ttl_max), expected, "{path}, {default:?}, {max:?}");
    }
    updated(&server, update(limits(None, millis(60_000)), &["limits.hold_ttl_max"])).await;
    let held = server.reserve(reserve("e", "ann")).await.expect("there is room").reservation;
    assert_eq!(held.expire_time.map(|t| t.seconds - 60), held.create_time.map(|t| t.seconds), "a hold of a minute");
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_update_counts_a_version_and_checks_its_etag() {
    let server = TestServer::start().await;
    let first = server.event("e", 5).await;
    let request = UpdateEventRequest { etag: first.etag.clone(), request_id: "r".into(), ..update(event("e", 6), &[]) };
    let second = updated(&server, request.clone()).await;
    assert_eq!((second.version, second.capacity), (2, 6));
    assert!(
        second.etag != first.etag
            && second.update_time.map(|t| (t.seconds, t.nanos)) > first.update_time.map(|t| (t.seconds, t.nanos))
    );
    let again = server.events().update_event(request.clone()).await.expect("answered again").into_inner();
    assert_eq!((again.event, again.execution.unwrap_or_default().replayed), (Some(second.clone()), true));
    let stale = UpdateEventRequest { request_id: String::new(), ..request };
    let status = assert_refused(server.events().update_event(stale).await, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(metadata(&status)["current_etag"], second.etag);
    server.check_and_stop().await;
}

#[tokio::test]
async fn capacity_shrinks_exactly_to_the_reserved_units() {
    let server = TestServer::with(&[("expiry.interval", "1h")]).await;
    server.event("e", 10).await;
    let mut client = server.reservations();
    client.reserve(ReserveRequest { quantity: 2, ..reserve("e", "lapsing") }).await.expect("there is room");
    server.lapse_holds("e").await;
    client.reserve(ReserveRequest { quantity: 3, ..reserve("e", "ann") }).await.expect("there is room");
    client.reserve(ReserveRequest { quantity: 2, confirm: true, ..reserve("e", "bob") }).await.expect("there is room");
    let shrink = async |capacity: i32| server.events().update_event(update(event("e", capacity), &["capacity"])).await;
    let status = assert_refused(shrink(4).await, Code::FailedPrecondition, "CAPACITY_BELOW_RESERVED");
    assert_eq!(metadata(&status)["reserved"], "5", "a lapsed hold reserves nothing");
    let now = shrink(5).await.expect("that is what is reserved").into_inner().event.expect("it");
    assert_eq!(
        (
            now.capacity,
            now.counts.unwrap_or_default().held,
            now.counts.unwrap_or_default().confirmed,
            now.counts.unwrap_or_default().available
        ),
        (5, 3, 2, 0)
    );
    assert_refused(client.reserve(reserve("e", "cid")).await, Code::FailedPrecondition, "SOLD_OUT");
    shrink(6).await.expect("it may grow");
    client.reserve(reserve("e", "cid")).await.expect("there is room again");
    server.check_and_stop().await;
}
