//! A command that frees places promotes waiting entries in the same commit.

use prost_types::{FieldMask, Timestamp};
use reservd::rpc::pb::{self, EventState, WaitlistEntryState as State};

use super::{cancel, full, leave};
use crate::support::{
    Observer, PATIENT, STRATEGIES, TestServer, eventually, join, of_user, patient_and, reserve, skipping, strict, with,
};

/// Only the commands of the test promote entries.
const BY_COMMANDS: [(&str, &str); 2] = [("expiry.interval", "1h"), ("waitlist.promotion_interval", "1h")];

fn amend(event_id: &str, quantity: i32, options: Option<pb::ExecutionOptions>) -> pb::AmendRequest {
    pb::AmendRequest {
        event_id: event_id.into(),
        reservation: of_user("ann"),
        quantity: Some(quantity),
        options,
        ..Default::default()
    }
}

fn update(event: pb::Event, path: &str) -> pb::UpdateEventRequest {
    let update_mask = Some(FieldMask { paths: vec![path.into()] });
    pb::UpdateEventRequest { event: Some(event), update_mask, ..Default::default() }
}

#[tokio::test]
async fn every_command_that_frees_places_promotes_entries() {
    let server = TestServer::with(&BY_COMMANDS).await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        full(&server, event_id, 8, strict()).await;
        let observer = Observer::of(&server, event_id).await;
        for user in ["a", "b", "c", "d", "e"] {
            server.join(join(event_id, user, 1)).await.expect("it is sold out");
        }
        server.amend(amend(event_id, 7, options)).await.expect("she has more");
        assert_eq!(server.promoted(event_id).await, ["a"]);
        server.cancel(pb::CancelRequest { options, ..cancel(event_id, "ann", 1) }).await.expect("she has more");
        assert_eq!(server.promoted(event_id).await, ["a", "b"]);
        let confirm = pb::ConfirmRequest {
            event_id: event_id.into(),
            reservation: of_user("ann"),
            quantity: Some(5),
            options,
            ..Default::default()
        };
        let version = server.confirm(confirm).await.expect("she holds six").execution.event_version;
        assert_eq!(server.promoted(event_id).await, ["a", "b", "c"]);
        assert_eq!(server.get_event(event_id).await.version, version, "with the change for the promoted entry");
        let bigger = pb::Event { event_id: event_id.into(), capacity: 9, ..Default::default() };
        server.events().update_event(update(bigger, "capacity")).await.expect("it may grow");
        assert_eq!(server.promoted(event_id).await, ["a", "b", "c", "d"]);
        server.cancel(pb::CancelRequest { options, ..cancel(event_id, "ann", 0) }).await.expect("she has five");
        assert_eq!(server.promoted(event_id).await, ["a", "b", "c", "d", "e"]);
        observer.finish().await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_larger_capacity_promotes_all_entries_that_fit_at_once() {
    let server = TestServer::with(&BY_COMMANDS).await;
    full(&server, "e", 2, strict()).await;
    for n in 0..20 {
        server.join(join("e", &format!("user-{n}"), 2)).await.expect("it is sold out");
    }
    let observer = Observer::of(&server, "e").await;
    let bigger = pb::Event { event_id: "e".into(), capacity: 32, ..Default::default() };
    let event = server.events().update_event(update(bigger, "capacity")).await.expect("it may grow").into_inner();
    let event = event.event.expect("the event");
    let seen = observer.finish().await;
    assert_eq!(seen.iter().map(|at| at.waiting).collect::<Vec<_>>(), [20, 5], "all or none, at every instant");
    assert_eq!(
        (server.get_event("e").await.version, server.get_event("e").await.counts.unwrap_or_default().held),
        (event.version, 32)
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_waitlist_moves_on_when_its_head_leaves_or_its_policy_changes() {
    let server = TestServer::with(&BY_COMMANDS).await;
    full(&server, "e", 4, strict()).await;
    for (user, quantity) in [("a", 4), ("b", 3), ("c", 1), ("d", 1)] {
        server.join(join("e", user, quantity)).await.expect("it is sold out");
    }
    server.cancel(cancel("e", "ann", 1)).await.expect("she has four");
    assert_eq!(server.promoted("e").await, [] as [&str; 0]);
    let skips = pb::Event { event_id: "e".into(), waitlist: Some(skipping(1)), ..Default::default() };
    server.events().update_event(update(skips, "waitlist")).await.expect("it may change");
    assert_eq!(server.promoted("e").await, ["c"]);
    server.cancel(cancel("e", "ann", 2)).await.expect("she has three");
    assert_eq!(server.promoted("e").await, ["c"], "once is enough");
    let a = server.entry("e", "a").await;
    assert_eq!((a.position, a.entry.expect("it waits").skip_count), (1, 1));
    server.leave(leave("e", "a")).await.expect("it waits");
    assert_eq!(server.promoted("e").await, ["c", "d"], "the next is too large too, and is passed over");
    // A party that fits and joins behind one that is too large is promoted at once.
    server.cancel(cancel("e", "ann", 0)).await.expect("she has one");
    assert_eq!(server.get_event("e").await.counts.unwrap_or_default().available, 2);
    server.join(join("e", "f", 1)).await.expect("others wait");
    assert_eq!(server.promoted("e").await, ["c", "d"], "not a second time");
    server.leave(leave("e", "b")).await.expect("it waits");
    assert_eq!(server.promoted("e").await, ["c", "d", "f"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn no_entry_is_promoted_while_an_event_is_closed_and_all_are_when_it_opens() {
    let server = TestServer::with(&BY_COMMANDS).await;
    full(&server, "e", 2, strict()).await;
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    let event_id = || "e".to_owned();
    server
        .events()
        .close_event(pb::CloseEventRequest { event_id: event_id(), ..Default::default() })
        .await
        .expect("open");
    server.cancel(cancel("e", "ann", 0)).await.expect("it is hers");
    assert_eq!(server.entry("e", "bob").await.position, 1);
    let opened = server.events().open_event(pb::OpenEventRequest { event_id: event_id(), ..Default::default() }).await;
    assert_eq!(opened.expect("it is closed").into_inner().event.expect("it").state(), EventState::Open);
    assert_eq!(server.promoted("e").await, ["bob"]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn entries_are_promoted_when_booking_begins() {
    let server = TestServer::with(&[("waitlist.promotion_interval", "5ms")]).await;
    full(&server, "e", 2, strict()).await;
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let opens = |time| pb::Event { event_id: "e".into(), booking_open_time: time, ..Default::default() };
    server.events().update_event(update(opens(at(4_000_000_000)), "booking_open_time")).await.expect("it may");
    server.cancel(cancel("e", "ann", 0)).await.expect("it is hers");
    assert_eq!(server.entry("e", "bob").await.position, 1);
    // Booking begins by the clock, without a command.
    let come = "UPDATE events SET booking_open_time = now() WHERE event_id = 'e'";
    sqlx::query(come).execute(&mut server.sql().await).await.expect("time can be made to pass");
    eventually("bob is served", async || server.promoted("e").await == ["bob"]).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn expiry_promotes_entries_in_its_own_transaction() {
    let server = TestServer::with(&patient_and(&[("waitlist.promotion_interval", "1h")])).await;
    let events: Vec<_> = (0..4).map(|n| format!("event-{n}")).collect();
    let mut observers = Vec::new();
    for event_id in &events {
        server.event_with_waitlist(event_id, 3, skipping(2)).await;
        for n in 0..3 {
            server.reserve(reserve(event_id, &format!("hold-{n}"))).await.expect("there is room");
        }
        for (user, quantity) in [("a", 2), ("b", 1), ("c", 1)] {
            server.join(join(event_id, user, quantity)).await.expect("it is sold out");
        }
        observers.push(Observer::of(&server, event_id).await);
    }
    for event_id in &events {
        server.lapse_holds(event_id).await;
    }
    for event_id in &events {
        eventually("all three places went to the waitlist", async || server.promoted(event_id).await.len() >= 2).await;
    }
    for observer in observers {
        observer.finish().await;
    }
    assert_eq!(server.metric("reservd_expiry_delay_seconds_count").await, 12.0, "what was served did not lapse");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_cancelled_event_ends_its_waitlist_in_one_step() {
    let server = TestServer::with(&PATIENT).await;
    full(&server, "e", 3, strict()).await;
    for n in 0..10 {
        server.join(join("e", &format!("user-{n}"), 1)).await.expect("it is sold out");
    }
    server.leave(leave("e", "user-4")).await.expect("it waits");
    let observer = Observer::of(&server, "e").await;
    let version = server.get_event("e").await.version;
    let request = pb::CancelEventRequest { event_id: "e".into(), reason: "rain".into(), ..Default::default() };
    let cancelled = server.events().cancel_event(request).await.expect("it is open").into_inner();
    assert_eq!((cancelled.cancelled_reservation_count, cancelled.ended_waitlist_entry_count), (1, 9));
    let event = cancelled.event.expect("the event");
    assert_eq!(
        (event.version, event.counts.unwrap_or_default().waiting),
        (version + 1 + 9 + 1, 0),
        "each ends with a change of its own"
    );
    let seen = observer.finish().await;
    assert_eq!(seen.iter().map(|at| at.waiting).collect::<Vec<_>>(), [9, 0], "all or none, at every instant");
    let entry = server.entry("e", "user-7").await.entry.expect("it has joined");
    assert_eq!((entry.state(), entry.version), (State::Ended, version + 1 + 7));
    assert_eq!(server.history("e", Some("user-7")).await, ["WAITLIST_JOINED", "WAITLIST_ENDED"]);

    // The history that PostgreSQL wrote reads like one that the program would have written.
    let leave = pb::LeaveWaitlistRequest { request_id: "late".into(), ..leave("e", "user-7") };
    let told =
        "UPDATE changes SET request_id = 'late', fingerprint = $1 WHERE kind = 'WAITLIST_ENDED' AND user_id = 'user-7'";
    sqlx::query(told).bind([0_u8; 16].as_slice()).execute(&mut server.sql().await).await.expect("it can be changed");
    let refused = server.leave(leave).await;
    crate::support::assert_refused(refused, tonic::Code::FailedPrecondition, "REQUEST_ID_REUSED");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_smaller_capacity_ends_the_entries_of_larger_parties() {
    let server = TestServer::with(&BY_COMMANDS).await;
    full(&server, "e", 4, strict()).await;
    for (user, quantity, min_quantity) in [("a", 4, 4), ("b", 4, 2), ("c", 1, 1)] {
        let request = pb::JoinWaitlistRequest { min_quantity: Some(min_quantity), ..join("e", user, quantity) };
        server.join(request).await.expect("it is sold out");
    }
    server.cancel(cancel("e", "ann", 1)).await.expect("she has four");
    let smaller = pb::Event { event_id: "e".into(), capacity: 3, ..Default::default() };
    server.events().update_event(update(smaller, "capacity")).await.expect("three are taken");
    let states = ["a", "b", "c"].map(async |user| server.entry("e", user).await.entry.expect("joined").state());
    assert_eq!(futures::future::join_all(states).await, [State::Ended, State::Waiting, State::Waiting]);
    server.cancel(cancel("e", "ann", 2)).await.expect("she has three");
    assert_eq!(server.promoted("e").await, ["b"]);
    assert_eq!(server.reservation("e", "b").await.quantity, 2, "as many as there were");
    server.check_and_stop().await;
}
