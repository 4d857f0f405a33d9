//! Each kind of field, in every request that has one, with every invalid value.

use std::collections::BTreeMap;

use prost_types::{Duration, Timestamp};
use reservd::rpc::pb::{self, reservation_selector::Selector};

use super::{Case, assert_all_invalid, case};
use crate::support::{Call, entry_of_user, join, of_user, reserve, skipping, strict};

/// Makes a request from a value.
type Make<'a, T> = Box<dyn Fn(T) -> Call + 'a>;

/// Every value in every field.
fn cases<T: Clone>(fields: Vec<(&str, Make<'_, T>)>, bad: &[T]) -> Vec<Case> {
    let each = |(path, make): &(&str, Make<'_, T>)| {
        bad.iter().map(|value| case(make(value.clone()), &[path])).collect::<Vec<_>>()
    };
    fields.iter().flat_map(each).collect()
}

/// A field of a request: its path, and the request with `v` in it.
macro_rules! field {
    ($path:literal, $value:ident => $request:expr) => {
        ($path, Box::new(|$value| $request.into()))
    };
}

fn event() -> pb::Event {
    pb::Event { event_id: "new".into(), capacity: 1, ..Default::default() }
}

fn create(event: pb::Event) -> pb::CreateEventRequest {
    pb::CreateEventRequest { event: Some(event), ..Default::default() }
}

fn confirm() -> pb::ConfirmRequest {
    pb::ConfirmRequest { event_id: "good".into(), reservation: of_user("ann"), ..Default::default() }
}

fn cancel() -> pb::CancelRequest {
    pb::CancelRequest { event_id: "good".into(), reservation: of_user("ann"), ..Default::default() }
}

fn extend() -> pb::ExtendRequest {
    pb::ExtendRequest { event_id: "good".into(), reservation: of_user("ann"), ..Default::default() }
}

fn amend() -> pb::AmendRequest {
    pb::AmendRequest { event_id: "good".into(), reservation: of_user("ann"), quantity: Some(2), ..Default::default() }
}

fn update() -> pb::UpdateEventRequest {
    let event = pb::Event { event_id: "good".into(), display_name: "x".into(), ..Default::default() };
    pb::UpdateEventRequest { event: Some(event), ..Default::default() }
}

fn leave() -> pb::LeaveWaitlistRequest {
    pb::LeaveWaitlistRequest { event_id: "good".into(), entry: entry_of_user("ann"), ..Default::default() }
}

fn entry(id: String) -> Option<pb::WaitlistEntrySelector> {
    Some(pb::WaitlistEntrySelector { selector: Some(pb::waitlist_entry_selector::Selector::EntryId(id)) })
}

fn with_waitlist(waitlist: pb::WaitlistPolicy) -> pb::CreateEventRequest {
    create(pb::Event { waitlist: Some(waitlist), ..event() })
}

fn selector(selector: Selector) -> Option<pb::ReservationSelector> {
    Some(pb::ReservationSelector { selector: Some(selector) })
}

fn bad_ids() -> Vec<String> {
    ["a b", " ", "a\0", "a\nb", "\u{7f}", "é", "\u{202e}"]
        .map(String::from)
        .into_iter()
        .chain(["x".repeat(256)])
        .collect()
}

#[tokio::test]
async fn an_id_is_text_of_few_characters_and_bounded_length() {
    use pb::*;
    let needed: Vec<(&str, Make<'_, String>)> = vec![
        field!("event_id", v => GetEventRequest { event_id: v }),
        field!("event_id", v => OpenEventRequest { event_id: v, ..Default::default() }),
        field!("event_id", v => CloseEventRequest { event_id: v, ..Default::default() }),
        field!("event_id", v => CancelEventRequest { event_id: v, ..Default::default() }),
        field!("event_id", v => GetAvailabilityRequest { event_id: v }),
        field!("event_id", v => VerifyEventRequest { event_id: v }),
        field!("event_ids[1]", v => BatchGetAvailabilityRequest { event_ids: vec!["good".into(), v] }),
        field!("event.event_id", v => UpdateEventRequest { event: Some(Event { event_id: v, capacity: 1, ..Default::default() }), ..Default::default() }),
        field!("event_id", v => ReserveRequest { event_id: v, ..reserve("good", "bob") }),
        field!("user_id", v => ReserveRequest { user_id: v, ..reserve("good", "bob") }),
        field!("event_id", v => ConfirmRequest { event_id: v, ..confirm() }),
        field!("event_id", v => CancelRequest { event_id: v, ..cancel() }),
        field!("event_id", v => ExtendRequest { event_id: v, ..extend() }),
        field!("event_id", v => AmendRequest { event_id: v, ..amend() }),
        field!("event_id", v => GetReservationRequest { event_id: v, reservation: of_user("ann") }),
        field!("event_id", v => JoinWaitlistRequest { event_id: v, ..join("good", "bob", 1) }),
        field!("user_id", v => JoinWaitlistRequest { user_id: v, ..join("good", "bob", 1) }),
        field!("event_id", v => LeaveWaitlistRequest { event_id: v, ..leave() }),
        field!("entry.user_id", v => LeaveWaitlistRequest { entry: entry_of_user(&v), ..leave() }),
        field!("event_id", v => GetWaitlistEntryRequest { event_id: v, entry: entry_of_user("ann") }),
        field!("entry.user_id", v => GetWaitlistEntryRequest { event_id: "good".into(), entry: entry_of_user(&v) }),
        field!("reservation.user_id", v => ConfirmRequest { reservation: of_user(&v), ..confirm() }),
        field!("reservation.user_id", v => CancelRequest { reservation: of_user(&v), ..cancel() }),
        field!("reservation.user_id", v => ExtendRequest { reservation: of_user(&v), ..extend() }),
        field!("reservation.user_id", v => AmendRequest { reservation: of_user(&v), ..amend() }),
        field!("reservation.user_id", v => GetReservationRequest { event_id: "good".into(), reservation: of_user(&v) }),
    ];
    let optional: Vec<(&str, Make<'_, String>)> = vec![
        field!("event.event_id", v => create(Event { event_id: v, ..event() })),
        field!("request_id", v => CreateEventRequest { request_id: v, ..create(event()) }),
        field!("requests[1].event.event_id", v => BatchCreateEventsRequest { requests: vec![create(event()), create(Event { event_id: v, ..event() })], ..Default::default() }),
        field!("requests[0].request_id", v => BatchCreateEventsRequest { requests: vec![CreateEventRequest { request_id: v, ..create(event()) }], ..Default::default() }),
        field!("request_id", v => UpdateEventRequest { request_id: v, ..update() }),
        field!("request_id", v => OpenEventRequest { event_id: "good".into(), request_id: v, ..Default::default() }),
        field!("request_id", v => CloseEventRequest { event_id: "good".into(), request_id: v, ..Default::default() }),
        field!("request_id", v => CancelEventRequest { event_id: "good".into(), request_id: v, ..Default::default() }),
        field!("request_id", v => ReserveRequest { request_id: v, ..reserve("good", "bob") }),
        field!("request_id", v => ConfirmRequest { request_id: v, ..confirm() }),
        field!("request_id", v => CancelRequest { request_id: v, ..cancel() }),
        field!("request_id", v => ExtendRequest { request_id: v, ..extend() }),
        field!("request_id", v => AmendRequest { request_id: v, ..amend() }),
        field!("event_id", v => ListReservationsRequest { event_id: v, user_id: "ann".into(), ..Default::default() }),
        field!("user_id", v => ListReservationsRequest { event_id: "good".into(), user_id: v, ..Default::default() }),
        field!("request_id", v => JoinWaitlistRequest { request_id: v, ..join("good", "bob", 1) }),
        field!("request_id", v => LeaveWaitlistRequest { request_id: v, ..leave() }),
        field!("event_id", v => ListWaitlistRequest { event_id: v, user_id: "ann".into(), ..Default::default() }),
        field!("user_id", v => ListWaitlistRequest { event_id: "good".into(), user_id: v, ..Default::default() }),
        field!("user_id", v => ListChangesRequest { event_id: "good".into(), user_id: v, ..Default::default() }),
    ];
    let mut all = cases(needed, &[vec![String::new()], bad_ids()].concat());
    all.extend(cases(optional, &bad_ids()));
    assert_all_invalid(all).await;
}

#[tokio::test]
async fn a_reservation_id_is_a_uuid_in_its_one_spelling() {
    let bad = ["", "x", "0190b6d45b7e7c3a9f000123456789ab", "{0190b6d4-5b7e-7c3a-9f00-0123456789ab}", "\0"];
    let id = |v: String| selector(Selector::ReservationId(v));
    let fields: Vec<(&str, Make<'_, String>)> = vec![
        field!("reservation.reservation_id", v => pb::ConfirmRequest { reservation: id(v), ..confirm() }),
        field!("reservation.reservation_id", v => pb::CancelRequest { reservation: id(v), ..cancel() }),
        field!("reservation.reservation_id", v => pb::ExtendRequest { reservation: id(v), ..extend() }),
        field!("reservation.reservation_id", v => pb::AmendRequest { reservation: id(v), ..amend() }),
        field!("reservation.reservation_id", v => pb::GetReservationRequest { event_id: "good".into(), reservation: id(v) }),
        field!("entry.entry_id", v => pb::LeaveWaitlistRequest { entry: entry(v), ..leave() }),
        field!("entry.entry_id", v => pb::GetWaitlistEntryRequest { event_id: "good".into(), entry: entry(v) }),
    ];
    assert_all_invalid(cases(fields, &bad.map(String::from))).await;
}

#[tokio::test]
async fn text_is_bounded_and_free_of_control_characters() {
    use pb::*;
    /// Text of this many characters at the most: the path, and the request with it.
    fn bad(max: usize) -> Vec<String> {
        vec!["ö".repeat(max + 1), "a\0b".into(), "\u{85}".into(), "\u{7f}".into()]
    }
    /// The same where line breaks and tabs are refused too.
    fn bad_line(max: usize) -> Vec<String> {
        [bad(max), vec!["a\nb".into(), "a\tb".into()]].concat()
    }
    let updated = |event: Event| UpdateEventRequest {
        event: Some(Event { event_id: "good".into(), ..event }),
        ..Default::default()
    };
    let names: Vec<(&str, Make<'_, String>)> = vec![
        field!("event.series_display_name", v => create(Event { series_display_name: v, ..event() })),
        field!("event.venue_display_name", v => updated(Event { venue_display_name: v, ..Default::default() })),
        field!("event.display_name", v => create(Event { display_name: v, ..event() })),
        field!("event.display_name", v => updated(Event { display_name: v, ..Default::default() })),
    ];
    let labels: Vec<(&str, Make<'_, String>)> = vec![
        field!("event.labels[k]", v => create(Event { labels: BTreeMap::from([("k".into(), v)]), ..event() })),
        field!("event.labels[k]", v => updated(Event { labels: BTreeMap::from([("k".into(), v)]), ..Default::default() })),
        field!("labels[k]", v => ReserveRequest { labels: BTreeMap::from([("k".into(), v)]), ..reserve("good", "bob") }),
        field!("labels[k]", v => JoinWaitlistRequest { labels: BTreeMap::from([("k".into(), v)]), ..join("good", "bob", 1) }),
        field!("labels[k]", v => AmendRequest { labels: BTreeMap::from([("k".into(), v)]), ..amend() }),
    ];
    let reasons: Vec<(&str, Make<'_, String>)> = vec![
        field!("reason", v => CancelRequest { reason: v, ..cancel() }),
        field!("reason", v => CancelEventRequest { event_id: "good".into(), reason: v, ..Default::default() }),
    ];
    let etags: Vec<(&str, Make<'_, String>)> = vec![
        field!("etag", v => UpdateEventRequest { etag: v, ..update() }),
        field!("etag", v => OpenEventRequest { event_id: "good".into(), etag: v, ..Default::default() }),
        field!("etag", v => CloseEventRequest { event_id: "good".into(), etag: v, ..Default::default() }),
        field!("etag", v => CancelEventRequest { event_id: "good".into(), etag: v, ..Default::default() }),
        field!("etag", v => ConfirmRequest { etag: v, ..confirm() }),
        field!("etag", v => CancelRequest { etag: v, ..cancel() }),
        field!("etag", v => ExtendRequest { etag: v, ..extend() }),
        field!("etag", v => AmendRequest { etag: v, ..amend() }),
        field!("etag", v => LeaveWaitlistRequest { etag: v, ..leave() }),
    ];
    let mut all = cases(names, &bad_line(256));
    all.extend(cases(labels, &bad(256)));
    all.extend(cases(reasons, &bad(512)));
    all.extend(cases(etags, &["e".repeat(129)]));
    assert_all_invalid(all).await;
}

#[tokio::test]
async fn numbers_outside_their_ranges_are_refused() {
    use pb::*;
    let limited = |limits: EventLimits| create(Event { limits: Some(limits), ..event() });
    let above_zero: Vec<(&str, Make<'_, i32>)> = vec![
        field!("quantity", v => ReserveRequest { quantity: v, ..reserve("good", "bob") }),
        field!("quantity", v => JoinWaitlistRequest { quantity: v, ..join("good", "bob", 1) }),
        field!("event.limits.max_quantity", v => limited(EventLimits { max_quantity: Some(v), ..Default::default() })),
    ];
    let up_to_ten_thousand: Vec<(&str, Make<'_, i32>)> = vec![
        field!("quantity", v => ConfirmRequest { quantity: Some(v), ..confirm() }),
        field!("quantity", v => CancelRequest { quantity: Some(v), request_id: "r".into(), ..cancel() }),
        field!("quantity", v => AmendRequest { quantity: Some(v), ..amend() }),
        field!("min_quantity", v => JoinWaitlistRequest { min_quantity: Some(v), ..join("good", "bob", 10_000) }),
    ];
    let up_to_a_thousand: Vec<(&str, Make<'_, i32>)> = vec![
        field!("event.limits.max_extensions", v => limited(EventLimits { max_extensions: Some(v), ..Default::default() })),
        field!("page_size", v => ListEventsRequest { page_size: v, ..Default::default() }),
        field!("page_size", v => ListWaitlistRequest { event_id: "good".into(), page_size: v, ..Default::default() }),
        field!("page_size", v => ListReservationsRequest { event_id: "good".into(), page_size: v, ..Default::default() }),
        field!("page_size", v => ListChangesRequest { event_id: "good".into(), page_size: v, ..Default::default() }),
    ];
    let skips: Vec<(&str, Make<'_, i32>)> = vec![
        field!("event.waitlist.max_skips", v => with_waitlist(WaitlistPolicy { max_skips: Some(v), ..skipping(1) })),
    ];
    let line: Vec<(&str, Make<'_, i32>)> =
        vec![field!("event.waitlist.max_size", v => with_waitlist(WaitlistPolicy { max_size: Some(v), ..strict() }))];
    let large: Vec<(&str, Make<'_, i32>)> = vec![
        field!("event.capacity", v => create(Event { capacity: v, ..event() })),
        field!("event.capacity", v => UpdateEventRequest { event: Some(Event { event_id: "good".into(), capacity: v, ..Default::default() }), ..Default::default() }),
        field!("operation_count", v => diagnostics::RunConcurrencyTestRequest { operation_count: v, ..Default::default() }),
        field!("concurrency", v => diagnostics::RunConcurrencyTestRequest { concurrency: v, ..Default::default() }),
        field!("capacity", v => diagnostics::RunConcurrencyTestRequest { capacity: v, ..Default::default() }),
    ];
    let mut all = cases(above_zero, &[0, -1, 10_001, i32::MIN, i32::MAX]);
    all.extend(cases(up_to_ten_thousand, &[0, -1, 10_001, i32::MIN, i32::MAX]));
    all.extend(cases(up_to_a_thousand, &[-1, 1_001, i32::MIN, i32::MAX]));
    all.extend(cases(skips, &[0, -1, 1_001, i32::MIN, i32::MAX]));
    all.extend(cases(line, &[0, -1, 100_001, i32::MIN, i32::MAX]));
    all.extend(cases(large, &[-1, 1_000_000_001, i32::MIN, i32::MAX]));
    assert_all_invalid(all).await;
}

#[tokio::test]
async fn durations_are_from_100_milliseconds_to_30_days() {
    use pb::*;
    let span = |seconds, nanos| Some(Duration { seconds, nanos });
    let bad = [
        span(0, 0),
        span(-1, 0),
        span(0, -1),
        span(0, 99_999_999),
        span(30 * 24 * 3600, 1000),
        span(1, 1_000_000_000),
        span(1, -1),
        span(1, i32::MIN),
        span(i64::MAX, 999_999_999),
        span(i64::MIN, i32::MIN),
        span(315_576_000_001, 0),
    ];
    let limited = |limits: EventLimits| create(Event { limits: Some(limits), ..event() });
    let fields: Vec<(&str, Make<'_, Option<Duration>>)> = vec![
        field!("hold_ttl", v => ReserveRequest { hold_ttl: v, ..reserve("good", "bob") }),
        field!("ttl", v => ExtendRequest { ttl: v, ..extend() }),
        field!("event.limits.hold_ttl_default", v => limited(EventLimits { hold_ttl_default: v, ..Default::default() })),
        field!("event.limits.hold_ttl_max", v => limited(EventLimits { hold_ttl_max: v, ..Default::default() })),
        field!("event.waitlist.offer_ttl", v => with_waitlist(WaitlistPolicy { offer_ttl: v, ..strict() })),
    ];
    assert_all_invalid(cases(fields, &bad)).await;
}

#[tokio::test]
async fn times_lie_within_the_years_1_to_9999() {
    use pb::*;
    let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let bad = [
        time(-62_135_596_801, 0),
        time(253_402_300_800, 0),
        time(0, -1),
        time(0, 1_000_000_000),
        time(i64::MAX, 0),
        time(i64::MIN, i32::MIN),
        time(i64::MAX / 1_000_000, 999_999_999),
    ];
    let updated = |event: Event| UpdateEventRequest {
        event: Some(Event { event_id: "good".into(), ..event }),
        ..Default::default()
    };
    let fields: Vec<(&str, Make<'_, Option<Timestamp>>)> = vec![
        field!("event.start_time", v => create(Event { start_time: v, ..event() })),
        field!("event.end_time", v => create(Event { end_time: v, ..event() })),
        field!("event.booking_open_time", v => create(Event { booking_open_time: v, ..event() })),
        field!("event.booking_close_time", v => create(Event { booking_close_time: v, ..event() })),
        field!("event.start_time", v => updated(Event { start_time: v, ..Default::default() })),
        field!("event.booking_close_time", v => updated(Event { booking_close_time: v, ..Default::default() })),
        field!("start_time_from", v => ListEventsRequest { start_time_from: v, ..Default::default() }),
        field!("start_time_before", v => ListEventsRequest { start_time_before: v, ..Default::default() }),
        field!("change_time_from", v => ListChangesRequest { event_id: "good".into(), change_time_from: v, ..Default::default() }),
        field!("change_time_before", v => ListChangesRequest { event_id: "good".into(), change_time_before: v, ..Default::default() }),
    ];
    assert_all_invalid(cases(fields, &bad)).await;
}

#[tokio::test]
async fn enum_values_are_known() {
    use pb::*;
    let how = |strategy, lock_wait| Some(ExecutionOptions { strategy, lock_wait });
    let fields: Vec<(&str, Make<'_, i32>)> = vec![
        field!("options.strategy", v => ReserveRequest { options: how(v, 0), ..reserve("good", "bob") }),
        field!("options.lock_wait", v => ReserveRequest { options: how(0, v), ..reserve("good", "bob") }),
        field!("options.strategy", v => ConfirmRequest { options: how(v, 0), ..confirm() }),
        field!("options.strategy", v => CancelRequest { options: how(v, 0), ..cancel() }),
        field!("options.strategy", v => ExtendRequest { options: how(v, 0), ..extend() }),
        field!("options.lock_wait", v => AmendRequest { options: how(0, v), ..amend() }),
        field!("states[1]", v => ListEventsRequest { states: vec![1, v], ..Default::default() }),
        field!("options.strategy", v => JoinWaitlistRequest { options: how(v, 0), ..join("good", "bob", 1) }),
        field!("options.lock_wait", v => LeaveWaitlistRequest { options: how(0, v), ..leave() }),
        field!("event.waitlist.order", v => with_waitlist(WaitlistPolicy { order: v, ..strict() })),
        field!("states[1]", v => ListWaitlistRequest { event_id: "good".into(), states: vec![1, v], ..Default::default() }),
        field!("states[1]", v => ListReservationsRequest { event_id: "good".into(), states: vec![1, v], ..Default::default() }),
        field!("order", v => ListReservationsRequest { user_id: "ann".into(), order: v, ..Default::default() }),
        field!("kinds[1]", v => ListChangesRequest { event_id: "good".into(), kinds: vec![1, v], ..Default::default() }),
        field!("strategy", v => diagnostics::RunConcurrencyTestRequest { strategy: v, ..Default::default() }),
        field!("lock_wait", v => diagnostics::RunConcurrencyTestRequest { lock_wait: v, ..Default::default() }),
        field!("workload", v => diagnostics::RunConcurrencyTestRequest { workload: v, ..Default::default() }),
    ];
    let mut all = cases(fields, &[99, -1, i32::MIN, i32::MAX]);
    // In a filter, an unspecified state is a mistake as well.
    all.push(case(ListEventsRequest { states: vec![0], ..Default::default() }, &["states[0]"]));
    assert_all_invalid(all).await;
}
