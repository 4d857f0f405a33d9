//! The waitlist under concurrency: no entry is promoted twice, no place is idle while it fits a waiting entry, and the
//! order and the capacity hold at each instant. With each strategy alone and with all mixed; on one server and on two.

use std::collections::BTreeSet;

use reservd::rpc::pb::{self, WaitlistEntryState as State};
use tonic::Status;

use super::{cancel, full, leave};
use crate::support::{
    CONNECTIONS, MIXES, Observer, PATIENT, TestServer, all, by_turns, eventually, join, millis, of_user, patient_and,
    reason, reserve, skipping, sorted, strict,
};

/// Only the calls of the test and the expiry worker promote entries.
const BY_CALLS: (&str, &str) = ("waitlist.promotion_interval", "1h");

/// The users of an event in the order in which they joined.
async fn joined(server: &TestServer, event_id: &str) -> Vec<String> {
    let users = "SELECT user_id FROM waitlist WHERE event_id = $1 ORDER BY ticket";
    sqlx::query_scalar(users).bind(event_id).fetch_all(&mut server.sql().await).await.expect("the waitlist can be read")
}

/// Over all events: every promoted entry has one promotion, one reservation, and no other entry has any.
async fn assert_promoted_once(server: &TestServer) {
    const WRONG: &str = "
        SELECT w.event_id || ' ' || w.user_id || ' ' || w.state || ': ' || count(DISTINCT c.version) || ', '
               || count(DISTINCT r.reservation_id)
          FROM waitlist w
          LEFT JOIN changes c ON c.event_id = w.event_id AND c.reservation_id = w.entry_id
               AND c.kind = 'WAITLIST_PROMOTED'
          LEFT JOIN reservations r ON r.event_id = w.event_id AND r.reservation_id = w.entry_id
         GROUP BY w.event_id, w.entry_id
        HAVING NOT (count(DISTINCT c.version) = (w.state = 'PROMOTED')::integer
                    AND count(DISTINCT r.reservation_id) = (w.state = 'PROMOTED')::integer)";
    let wrong: Vec<String> = sqlx::query_scalar(WRONG).fetch_all(&mut server.sql().await).await.expect("a history");
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn places_freed_at_once_go_to_the_head_of_the_waitlist() {
    let server = TestServer::with(&patient_and(&[BY_CALLS])).await;
    let twin = server.twin_with(&patient_and(&[BY_CALLS])).await;
    for (event_id, mix) in MIXES {
        server.event_with_waitlist(event_id, 12, strict()).await;
        all((0..CONNECTIONS).map(|n| server.reserve(reserve(event_id, &format!("has-{n}"))))).await;
        // They join at once: their order is that in which they got the event's lock.
        let joins = (0..16).map(|n| {
            let request = join(event_id, &format!("wants-{n}"), 1);
            server.join(pb::JoinWaitlistRequest { options: by_turns(mix, n), ..request })
        });
        let (waiting, refused) = sorted(all(joins).await);
        assert_eq!((waiting.len(), refused.len()), (16, 0), "{refused:?}");
        let queue = joined(&server, event_id).await;

        let observer = Observer::of(&server, event_id).await;
        let cancels = (0..CONNECTIONS).map(|n| {
            let at = if n / 2 % 2 == 0 { &server } else { &twin };
            let request = cancel(event_id, &format!("has-{n}"), 0);
            at.cancel(pb::CancelRequest { options: by_turns(mix, n), ..request })
        });
        let (done, refused) = sorted(server.race(event_id, CONNECTIONS, cancels).await);
        assert_eq!((done.len(), refused.len()), (12, 0), "{refused:?}");
        assert_eq!(server.promoted(event_id).await, queue[..12], "{event_id}");
        observer.finish().await;
    }
    twin.app.stop().await;
    assert_promoted_once(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_join_and_a_concurrent_cancellation_do_not_miss_each_other() {
    let server = TestServer::with(&patient_and(&[BY_CALLS])).await;
    for (event_id, mix) in MIXES {
        full(&server, event_id, 4, strict()).await;
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..8).map(async |n| -> Result<(), Status> {
            let options = by_turns(mix, n);
            if n % 2 == 0 {
                server.cancel(pb::CancelRequest { options, ..cancel(event_id, "ann", 1) }).await.map(drop)
            } else {
                let request = join(event_id, &format!("user-{n}"), 1);
                server.join(pb::JoinWaitlistRequest { options, ..request }).await.map(drop)
            }
        });
        let (_, refused) = sorted(server.race(event_id, 8, calls).await);
        refused.iter().for_each(|status| assert_eq!(reason(status), "NOT_SOLD_OUT"));
        let event = server.get_event(event_id).await;
        assert_eq!(event.counts.unwrap_or_default().waiting, 0, "four places came free for four: {event:?}");
        assert_eq!(server.promoted(event_id).await.len() + refused.len(), 4, "{event_id}");
        observer.finish().await;
    }
    assert_promoted_once(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_entry_that_leaves_while_a_place_becomes_free_leaves_or_is_promoted() {
    let server = TestServer::with(&patient_and(&[BY_CALLS])).await;
    for (event_id, mix) in MIXES {
        full(&server, event_id, 5, strict()).await;
        for n in 0..5 {
            server.join(join(event_id, &format!("user-{n}"), 1)).await.expect("it is sold out");
        }
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..10).map(async |n| {
            let (options, user) = (by_turns(mix, n), format!("user-{}", n / 2));
            if n % 2 == 0 {
                let request = pb::CancelRequest { options, ..cancel(event_id, "ann", 1) };
                server.cancel(request).await.map(|_| None)
            } else {
                let request = pb::LeaveWaitlistRequest { options, ..leave(event_id, &user) };
                server.leave(request).await.map(Some)
            }
        });
        let (done, refused) = sorted(server.race(event_id, 10, calls).await);
        refused.iter().for_each(|status| assert_eq!(reason(status), "NOT_WAITING"));
        let left: BTreeSet<_> = done.into_iter().flatten().map(|entry| entry.user_id).collect();
        for n in 0..5 {
            let user = format!("user-{n}");
            let state = server.entry(event_id, &user).await.entry.expect("it has joined").state();
            assert_eq!(state, if left.contains(&user) { State::Left } else { State::Promoted }, "{event_id} {user}");
        }
        observer.finish().await;
    }
    assert_promoted_once(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn one_waiting_entry_for_a_user_however_many_race() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        full(&server, event_id, 1, strict()).await;
        let calls = (0..12).map(|n| {
            let request = join(event_id, "bob", 1);
            server.join(pb::JoinWaitlistRequest { options: by_turns(mix, n), ..request })
        });
        let (made, refused) = sorted(server.race(event_id, CONNECTIONS, calls).await);
        assert_eq!((made.len(), refused.len()), (1, 11), "{event_id}");
        refused.iter().for_each(|status| assert_eq!(reason(status), "ALREADY_WAITING"));
        assert_eq!(server.get_event(event_id).await.counts.unwrap_or_default().waiting, 1);
    }
    server.check_and_stop().await;
}

/// The calls of a user of a busy event: reserve or wait, leave or take the offer, and cancel it, in part or in whole;
/// some users let it lapse.
async fn a_life(server: &TestServer, event_id: &str, mix: &[pb::ExecutionStrategy], n: usize) -> Vec<Status> {
    let (user, options) = (format!("user-{n}"), by_turns(mix, n));
    let quantity = i32::try_from(n % 3 + 1).expect("small");
    let event_id = event_id.to_owned();
    let mut refused = Vec::new();
    let taken = server.reserve(pb::ReserveRequest { quantity, options, ..reserve(&event_id, &user) }).await;
    if let Err(status) = taken {
        refused.push(status);
        let request = pb::JoinWaitlistRequest { min_quantity: Some(1), options, ..join(&event_id, &user, quantity) };
        refused.extend(server.join(request).await.err());
    }
    if n.is_multiple_of(7) {
        refused.extend(server.leave(pb::LeaveWaitlistRequest { options, ..leave(&event_id, &user) }).await.err());
    }
    if n.is_multiple_of(2) {
        let (event_id, reservation) = (event_id.clone(), of_user(&user));
        let confirm = pb::ConfirmRequest { event_id, reservation, quantity: Some(1), options, ..Default::default() };
        refused.extend(server.confirm(confirm).await.err());
    }
    if !n.is_multiple_of(5) {
        refused.extend(server.cancel(pb::CancelRequest { options, ..cancel(&event_id, &user, 0) }).await.err());
    }
    refused
}

#[tokio::test]
async fn a_rush_on_a_small_event_with_a_waitlist_keeps_every_promise_at_every_instant() {
    let settings = patient_and(&[BY_CALLS, ("expiry.interval", "5ms")]);
    let server = TestServer::with(&settings).await;
    let twin = server.twin_with(&settings).await;
    for (event_id, mix) in MIXES {
        let policy = pb::WaitlistPolicy { offer_ttl: millis(100), ..skipping(1000) };
        full(&server, event_id, 6, policy).await;
        // This party fits only once ann has no units left: so entries wait at all times, and all users go through the
        // waitlist.
        server.join(join(event_id, "large", 6)).await.expect("it is sold out");
        server.cancel(cancel(event_id, "ann", 5)).await.expect("she has six");
        let observer = Observer::of(&server, event_id).await;
        let lives = (0..30).map(|n| a_life(if n / 2 % 2 == 0 { &server } else { &twin }, event_id, mix, n));
        let refused = all(lives).await.into_iter().flatten().map(|status| reason(&status));
        let known = ["HOLD_EXPIRED", "NOT_HELD", "NOT_LIVE", "NOT_WAITING", "RESERVATION_NOT_FOUND", "WAITLIST_AHEAD"];
        let reasons: BTreeSet<String> = refused.collect();
        assert!(reasons.iter().all(|reason| known.contains(&reason.as_str())), "{reasons:?}");
        assert!(reasons.contains("WAITLIST_AHEAD"), "some waited: {reasons:?}");
        // The others take the offer, or let it lapse.
        eventually("all but one were served", async || {
            server.get_event(event_id).await.counts.unwrap_or_default().waiting == 1
        })
        .await;
        assert_eq!(server.entry(event_id, "large").await.position, 1);
        let large = server.entry(event_id, "large").await.entry.expect("it waits");
        let promoted = server.promoted(event_id).await.len();
        assert_eq!(usize::try_from(large.skip_count).expect("a count"), promoted, "each passed it, and was counted");
        observer.finish().await;
    }
    twin.app.stop().await;
    assert_promoted_once(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn newcomers_do_not_overtake_however_many_there_are() {
    let server = TestServer::with(&patient_and(&[BY_CALLS])).await;
    for (event_id, mix) in MIXES {
        full(&server, event_id, 6, strict()).await;
        for user in ["a", "b", "c"] {
            server.join(join(event_id, user, 2)).await.expect("it is sold out");
        }
        // Six places become free one by one among concurrent Reserves: three parties of two wait.
        let calls = (0..30).map(async |n| {
            let options = by_turns(mix, n);
            if n % 5 == 0 {
                server.cancel(pb::CancelRequest { options, ..cancel(event_id, "ann", 1) }).await
            } else {
                server.reserve(pb::ReserveRequest { options, ..reserve(event_id, &format!("new-{n}")) }).await
            }
        });
        // Reserves that are refused without a lock do not wait; the cancellations do.
        let (done, refused) = sorted(server.race(event_id, 4, calls).await);
        assert_eq!(done.len(), 6, "{event_id}: the six cancellations");
        let reasons: BTreeSet<_> = refused.iter().map(reason).collect();
        assert!(reasons.is_subset(&["SOLD_OUT", "WAITLIST_AHEAD"].map(str::to_owned).into()), "{reasons:?}");
        assert_eq!(server.promoted(event_id).await, ["a", "b", "c"]);
    }
    server.check_and_stop().await;
}
