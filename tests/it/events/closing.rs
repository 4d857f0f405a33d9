//! When booking closes: at a fixed time, relative to the event's own times, by the server's default, or never.

use prost_types::{Duration, FieldMask};
use reservd::rpc::pb::{self, booking_close::Rule, *};
use tonic::Code;

use super::{at, event};
use crate::support::{
    TestServer, assert_refused, bad_fields, join, metadata, of_user,
    process::{CommandOutput, TempFolder, run},
    reserve, strict,
};

const PAST: i64 = 1_000_000_000;
const FUTURE: i64 = 4_000_000_000;

fn closes(rule: Rule) -> Option<BookingClose> {
    Some(BookingClose { rule: Some(rule) })
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

fn before_start(before: i64) -> Option<BookingClose> {
    closes(Rule::StartOffset(seconds(-before)))
}

fn at_end() -> Option<BookingClose> {
    closes(Rule::EndOffset(seconds(0)))
}

async fn update(server: &TestServer, event: pb::Event, paths: &[&str]) -> pb::Event {
    let mask = (!paths.is_empty()).then(|| FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let request = UpdateEventRequest { event: Some(event), update_mask: mask, ..Default::default() };
    let event = server.events().update_event(request).await.expect("updated").into_inner().event.expect("it");
    assert_eq!(server.get_event(&event.event_id).await, event);
    event
}

#[tokio::test]
async fn a_relative_close_follows_when_the_event_moves() {
    let server = TestServer::start().await;
    let made = server
        .event_with(pb::Event {
            start_time: at(FUTURE),
            end_time: at(FUTURE + 7200),
            booking_close: before_start(1800),
            ..event("e", 9)
        })
        .await;
    assert_eq!((made.booking_close, made.booking_close_time), (before_start(1800), at(FUTURE - 1800)));
    server.reserve(reserve("e", "ann")).await.expect("booking is open");

    let moved = update(&server, pb::Event { start_time: at(PAST), ..event("e", 0) }, &["start_time"]).await;
    assert_eq!((moved.booking_close, moved.booking_close_time), (before_start(1800), at(PAST - 1800)));
    let status = assert_refused(server.reserve(reserve("e", "bob")).await, Code::FailedPrecondition, "EVENT_NOT_OPEN");
    assert_eq!(metadata(&status)["booking_close_time"], "2001-09-09T01:16:40Z");

    let at_end = update(&server, pb::Event { booking_close: at_end(), ..event("e", 0) }, &["booking_close"]).await;
    assert_eq!(at_end.booking_close_time, at(FUTURE + 7200));
    server.reserve(reserve("e", "bob")).await.expect("the event has not ended");
    let without_end = update(&server, event("e", 0), &["end_time"]).await;
    assert_eq!(without_end.booking_close_time, None, "there is nothing from which it follows");
    server.check_and_stop().await;
}

/// The promotion worker and VerifyEvent read the time that is stored with the event.
#[tokio::test]
async fn what_is_free_after_a_relative_close_is_owed_to_no_entry() {
    let server = TestServer::with(&[("waitlist.promotion_interval", "10ms")]).await;
    let times = pb::Event { start_time: at(FUTURE), booking_close: before_start(0), ..event("e", 1) };
    server.event_with(pb::Event { waitlist: Some(strict()), ..times }).await;
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    update(&server, pb::Event { start_time: at(PAST), ..event("e", 0) }, &["start_time"]).await;
    let cancel = CancelRequest { event_id: "e".into(), reservation: of_user("ann"), ..Default::default() };
    server.cancel(cancel).await.expect("it is live");
    server.check().await;
    let opens = pb::Event { start_time: at(FUTURE), ..event("e", 0) };
    let opens = UpdateEventRequest { event: Some(opens), ..Default::default() };
    server.events().update_event(opens).await.expect("updated");
    assert_eq!(server.promoted("e").await, ["bob"], "booking is open again");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_fixed_close_and_a_relative_one_replace_each_other() {
    let server = TestServer::start().await;
    let both = |time, rule| pb::Event { booking_close_time: time, booking_close: rule, ..event("e", 9) };
    let made = server.event_with(pb::Event { start_time: at(FUTURE), ..both(at(PAST), before_start(60)) }).await;
    assert_eq!(made.booking_close_time, at(FUTURE - 60), "beside a rule, a time is ignored");
    let said = |event: &pb::Event| (event.booking_close_time, event.booking_close);
    for (new, paths, expected) in [
        (both(at(FUTURE + 9), None), &["booking_close_time"][..], (at(FUTURE + 9), None)),
        (both(at(PAST), before_start(7)), &["booking_close"], (at(FUTURE - 7), before_start(7))),
        (both(at(FUTURE), before_start(7)), &["booking_close_time"], (at(FUTURE), None)),
        (both(at(PAST), before_start(8)), &["*"], (None, before_start(8))),
        (both(at(FUTURE), None), &["*"], (at(FUTURE), None)),
        (both(None, closes(Rule::Never(true))), &[], (None, None)),
        (pb::Event { start_time: at(FUTURE), ..both(None, before_start(9)) }, &[], (at(FUTURE - 9), before_start(9))),
        (both(None, None), &["booking_close"], (None, None)),
    ] {
        assert_eq!(said(&update(&server, new, paths).await), expected, "{paths:?}");
    }
    // What GetEvent answers can be sent back.
    let made = update(&server, both(None, before_start(5)), &["booking_close"]).await;
    let sent_back = update(&server, pb::Event { start_time: at(FUTURE + 100), ..made }, &[]).await;
    assert_eq!(said(&sent_back), (at(FUTURE + 95), before_start(5)));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_close_that_means_nothing_is_refused_by_its_field() {
    let server = TestServer::start().await;
    let day = 24 * 3600;
    for (rule, field) in [
        (Some(Rule::StartOffset(seconds(-366 * day - 1))), "event.booking_close.start_offset"),
        (Some(Rule::EndOffset(seconds(366 * day + 1))), "event.booking_close.end_offset"),
        (Some(Rule::EndOffset(seconds(i64::MIN))), "event.booking_close.end_offset"),
        (Some(Rule::StartOffset(Duration { seconds: 1, nanos: -1 })), "event.booking_close.start_offset"),
        (Some(Rule::StartOffset(Duration { seconds: 0, nanos: 1_000_000_000 })), "event.booking_close.start_offset"),
        (Some(Rule::Never(false)), "event.booking_close.never"),
        (None, "event.booking_close"),
    ] {
        let event = pb::Event { booking_close: Some(BookingClose { rule }), ..event("e", 1) };
        let request = CreateEventRequest { event: Some(event), ..Default::default() };
        let status =
            assert_refused(server.events().create_event(request).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(bad_fields(&status), [field]);
    }
    let event =
        pb::Event { start_time: at(9), booking_open_time: at(9), booking_close: before_start(0), ..event("e", 1) };
    let request = CreateEventRequest { event: Some(event), ..Default::default() };
    let status = assert_refused(server.events().create_event(request).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), ["event.booking_close"], "it follows that booking closes as it opens");
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_servers_default_is_stored_with_the_event_so_all_servers_decide_alike() {
    let server = TestServer::with(&[("events.booking_close", "end")]).await;
    let other = server.twin().await;
    let past = |event_id: &str| pb::Event { start_time: at(PAST), end_time: at(PAST + 60), ..event(event_id, 9) };
    let closed = server.event_with(past("says-nothing")).await;
    assert_eq!((closed.booking_close, closed.booking_close_time), (at_end(), at(PAST + 60)));
    let never = pb::Event { booking_close: closes(Rule::Never(true)), ..past("never") };
    assert_eq!(server.event_with(never).await.booking_close, None);
    server.event_with(pb::Event { booking_close_time: at(FUTURE), ..past("fixed") }).await;
    let batch = vec![CreateEventRequest { event: Some(past("in-a-batch")), ..Default::default() }];
    let batch = BatchCreateEventsRequest { requests: batch, ..Default::default() };
    server.events().batch_create_events(batch).await.expect("created");
    other.event_with(past("of-the-other")).await;
    for (event_id, is_open) in
        [("says-nothing", false), ("in-a-batch", false), ("never", true), ("fixed", true), ("of-the-other", true)]
    {
        for (server, user) in [(&server, "ann"), (&other, "bob")] {
            let answer = server.reserve(reserve(event_id, user)).await;
            if is_open {
                answer.expect("it is sold past its end");
            } else {
                assert_refused(answer, Code::FailedPrecondition, "EVENT_NOT_OPEN");
            }
        }
    }
    other.app.stop().await;
    server.check_and_stop().await;
}

async fn import(server: &TestServer, folder: &TempFolder, lines: &str) -> CommandOutput {
    let file = folder.file("events.csv", format!("event_id,capacity,start_time,booking_close_time\n{lines}"));
    run(&["event", "import", &file, "--server", &format!("http://{}", server.app.address)]).await
}

#[tokio::test]
async fn a_csv_file_says_when_booking_closes_and_an_export_says_it_again() {
    let server = TestServer::with(&[("events.booking_close", "start")]).await;
    let folder = TempFolder::new();
    let lines = "a,1,2030-05-01T19:30:00Z,2030-05-01T00:00:00Z\n\
        b,1,2030-05-01T19:30:00Z,start-30m\nc,1,2030-05-01T19:30:00Z,End + 1H 30m\n\
        d,1,2030-05-01T19:30:00Z,never\ne,1,2030-05-01T19:30:00Z,\n";
    let first = import(&server, &folder, lines).await;
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""), "{first:?}");
    let said = async |event_id: &str| server.get_event(event_id).await.booking_close;
    assert_eq!(said("b").await, before_start(1800));
    assert_eq!(said("c").await, closes(Rule::EndOffset(seconds(5400))));
    assert_eq!((said("d").await, said("e").await), (None, before_start(0)), "the default of the server");

    let again = import(&server, &folder, lines).await;
    assert!(again.out.starts_with("0 events created, 5 existing, 0 different,"), "{again:?}");
    let export = run(&["event", "export", "--server", &format!("http://{}", server.app.address)]).await;
    let column =
        export.out.lines().next().and_then(|header| header.split(',').position(|it| it == "booking_close_time"));
    let column = column.expect("it is exported");
    let cells: Vec<_> = export.out.lines().skip(1).filter_map(|line| line.split(',').nth(column)).collect();
    assert_eq!(cells, ["2030-05-01T00:00:00Z", "start-30m", "end+1h 30m", "never", "start"]);

    let other =
        import(&server, &folder, "a,1,2030-05-01T19:30:00Z,\ne,1,2030-05-01T19:30:00Z,never\nf,1,,start-30\n").await;
    assert_eq!(
        other.err.lines().collect::<Vec<_>>()[..3],
        [
            "line 2: the event differs: booking_close_time is 2030-05-01T00:00:00Z, the line says empty",
            "line 3: the event differs: booking_close_time is start, the line says never",
            "line 4, column booking_close_time: \"start-30\" is not known; write never, start, end, or a duration from \
             one of these, as in start-30m or end+1h",
        ],
        "{other:?}"
    );
    server.check_and_stop().await;
}
