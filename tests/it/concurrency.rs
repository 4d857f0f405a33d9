//! Races of many callers for the same units: no unit is sold twice, and no user gets two reservations. With each
//! strategy alone and mixed on the same event; the tests force the callers to meet, so no result depends on luck.

use std::collections::BTreeSet;

use reservd::rpc::pb::{self, ReservationState};
use sqlx::Executor;
use tonic::{Code, Status};

use crate::support::{
    Answer, CONNECTIONS, MIXES, Observer, PATIENT, TestServer, all, assert_refused, by_turns, metadata, millis, new_id,
    of_user, patient_and, reason, reserve, sorted, with,
};

fn is_no<T>(answer: &Result<T, Status>, why: &str) -> bool {
    answer.as_ref().is_err_and(|status| reason(status) == why)
}

#[tokio::test]
async fn the_last_unit_is_sold_once() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 1).await;
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..24).map(|n| {
            let request = reserve(event_id, &format!("user-{n}"));
            server.reserve(pb::ReserveRequest { options: by_turns(mix, n), ..request })
        });
        let (sold, refused) = sorted(server.race(event_id, CONNECTIONS, calls).await);
        assert_eq!(sold.len(), 1, "{event_id}");
        for status in refused {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SOLD_OUT"));
            assert_eq!(metadata(&status)["available"], "0");
        }
        observer.finish().await;
        assert_eq!(server.get_event(event_id).await.version, 2, "one change, however many asked");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn two_servers_on_one_database_sell_the_last_units_once() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 3).await;
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..32).map(|n| {
            // In pairs, so that either server sees every strategy.
            let at = if n / 2 % 2 == 0 { &server } else { &twin };
            at.reserve(pb::ReserveRequest {
                options: by_turns(mix, n),
                confirm: n % 3 == 0,
                ..reserve(event_id, &format!("user-{n}"))
            })
        });
        let (sold, refused) = sorted(server.race(event_id, 2 * CONNECTIONS, calls).await);
        assert_eq!(sold.len(), 3, "{event_id}");
        refused.iter().for_each(|status| assert_eq!(reason(status), "SOLD_OUT"));
        observer.finish().await;
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn one_live_reservation_for_a_user_however_many_race() {
    let server = TestServer::with(&PATIENT).await;
    let twin = server.twin_with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 100).await;
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..32).map(|n| {
            let at = if n / 2 % 2 == 0 { &server } else { &twin };
            at.reserve(pb::ReserveRequest { options: by_turns(mix, n), ..reserve(event_id, "ann") })
        });
        let (made, refused) = sorted(server.race(event_id, 2 * CONNECTIONS, calls).await);
        assert_eq!(made.len(), 1, "{event_id}");
        for status in refused {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "ALREADY_RESERVED"));
            assert_eq!(
                metadata(&status)["reservation_id"],
                made[0].reservation.reservation_id,
                "names the one there is"
            );
        }
        observer.finish().await;
    }
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn capacity_is_never_exceeded_at_any_instant() {
    let server = TestServer::with(&patient_and(&[("expiry.interval", "5ms")])).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 20).await;
        let observer = Observer::of(&server, event_id).await;
        let answers = all((0..48).map(|n| a_life(&server, event_id, mix, n))).await;
        let refused = answers.into_iter().flat_map(|answers| sorted(answers).1);
        let reasons: BTreeSet<_> = refused.map(|status| reason(&status)).collect();
        let expected = ["HOLD_EXPIRED", "NOT_LIVE", "RESERVATION_NOT_FOUND", "SOLD_OUT"].map(str::to_owned);
        assert!(reasons.is_subset(&BTreeSet::from(expected)), "{reasons:?}");
        assert!(reasons.contains("SOLD_OUT"), "it was full at times: {reasons:?}");
        observer.finish().await;
    }
    server.check_and_stop().await;
}

/// The calls of one user's life, without waiting for other users; a few users let their hold lapse.
async fn a_life(
    server: &TestServer,
    event_id: &str,
    mix: &[pb::ExecutionStrategy],
    n: usize,
) -> Vec<Result<Answer, Status>> {
    let user = format!("user-{n}");
    let (event_id, reservation, options) = (event_id.to_owned(), of_user(&user), by_turns(mix, n));
    let quantity = i32::try_from(n % 3 + 1).expect("small");
    let hold_ttl = millis(if n.is_multiple_of(5) { 100 } else { 60_000 });
    let held = pb::ReserveRequest { quantity, hold_ttl, options, ..reserve(&event_id, &user) };
    let mut answers = vec![server.reserve(held).await];
    let amend = pb::AmendRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        quantity: Some(4),
        options,
        ..Default::default()
    };
    answers.push(server.amend(amend).await);
    if n.is_multiple_of(2) {
        let quantity = Some(i32::from(n.is_multiple_of(4))).filter(|quantity| *quantity > 0);
        let confirm = pb::ConfirmRequest {
            event_id: event_id.clone(),
            reservation: reservation.clone(),
            quantity,
            options,
            ..Default::default()
        };
        answers.push(server.confirm(confirm).await);
    }
    if !n.is_multiple_of(3) {
        let quantity = Some(i32::from(n % 3 == 1)).filter(|quantity| *quantity > 0);
        let cancel =
            pb::CancelRequest { event_id, reservation, quantity, request_id: new_id(), options, ..Default::default() };
        answers.push(server.cancel(cancel).await);
    }
    answers
}

#[tokio::test]
async fn amend_and_reserve_do_not_both_get_the_last_units() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 4).await;
        let two = pb::ReserveRequest { quantity: 2, ..reserve(event_id, "ann") };
        server.reserve(two).await.expect("there is room");
        let observer = Observer::of(&server, event_id).await;

        let amend = server.amend(pb::AmendRequest {
            event_id: event_id.into(),
            reservation: of_user("ann"),
            quantity: Some(4),
            options: by_turns(mix, 1),
            ..Default::default()
        });
        let reserves = (0..6).map(|n| {
            let request = reserve(event_id, &format!("user-{n}"));
            server.reserve(pb::ReserveRequest { options: by_turns(mix, n), ..request })
        });
        let calls = reserves.map(futures::FutureExt::boxed_local).chain([futures::FutureExt::boxed_local(amend)]);
        let mut answers = server.race(event_id, 7, calls).await;
        let amended = answers.pop().expect("the last is the amendment");
        let (sold, refused) = sorted(answers);
        refused.iter().for_each(|status| assert_eq!(reason(status), "SOLD_OUT"));
        assert!(amended.is_ok() || is_no(&amended, "SOLD_OUT"), "{amended:?}");
        assert_eq!(sold.len(), if amended.is_ok() { 0 } else { 2 }, "{event_id}: {amended:?}");
        observer.finish().await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_shrinking_capacity_and_concurrent_reserves_take_effect_one_after_the_other() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 10).await;
        server.reserve(pb::ReserveRequest { quantity: 5, ..reserve(event_id, "ann") }).await.expect("there is room");
        let observer = Observer::of(&server, event_id).await;

        let shrink = async {
            let event = pb::Event { event_id: event_id.into(), capacity: 6, ..Default::default() };
            let request = pb::UpdateEventRequest { event: Some(event), ..Default::default() };
            server.events().update_event(request).await.map(|_| None)
        };
        let reserves = (0..10).map(|n| {
            let request = reserve(event_id, &format!("user-{n}"));
            let call = server.reserve(pb::ReserveRequest { options: by_turns(mix, n), ..request });
            futures::FutureExt::boxed_local(async { call.await.map(Some) })
        });
        let calls = reserves.chain([futures::FutureExt::boxed_local(shrink)]);
        let mut answers = server.race(event_id, 11, calls).await;
        let shrunk = answers.pop().expect("the last is the update");
        let (sold, refused) = sorted(answers);
        refused.iter().for_each(|status| assert_eq!(reason(status), "SOLD_OUT"));
        // The smaller capacity fits before the second sale, and not after it.
        assert!(shrunk.is_ok() || is_no(&shrunk, "CAPACITY_BELOW_RESERVED"), "{shrunk:?}");
        assert_eq!(sold.len(), if shrunk.is_ok() { 1 } else { 5 }, "{event_id}: {shrunk:?}");
        observer.finish().await;
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn cancel_and_confirm_take_effect_one_after_the_other() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 10).await;
        let users: Vec<_> = (0..6).map(|n| format!("user-{n}")).collect();
        for user in &users {
            server.reserve(reserve(event_id, user)).await.expect("there is room");
        }
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..12).map(|n| confirm_or_cancel(&server, event_id, &users[n / 2], "", n, mix));
        let answers = server.race(event_id, 12, calls).await;
        for (user, answers) in users.iter().zip(answers.chunks(2)) {
            // A confirmed reservation can be cancelled, a cancelled one can't be confirmed.
            let history = server.history(event_id, Some(user)).await;
            match &answers[0] {
                Ok(_) => assert_eq!(history, ["HELD", "CONFIRMED", "CANCELLED"]),
                Err(status) => {
                    assert_eq!(reason(status), "NOT_LIVE");
                    assert_eq!(history, ["HELD", "CANCELLED"]);
                }
            }
            assert!(answers[1].is_ok(), "{:?}", answers[1]);
        }
        observer.finish().await;
        assert_eq!(server.get_event(event_id).await.counts.unwrap_or_default().available, 10);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn of_cancel_and_confirm_with_the_same_etag_one_wins() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 10).await;
        let users: Vec<_> = (0..6).map(|n| format!("user-{n}")).collect();
        let mut etags = Vec::new();
        for user in &users {
            etags.push(server.reserve(reserve(event_id, user)).await.expect("there is room").reservation.etag);
        }
        let calls = (0..12).map(|n| confirm_or_cancel(&server, event_id, &users[n / 2], &etags[n / 2], n, mix));
        let answers = server.race(event_id, 12, calls).await;
        for (user, answers) in users.iter().zip(answers.chunks(2)) {
            let (won, lost) = if answers[0].is_ok() { (&answers[0], &answers[1]) } else { (&answers[1], &answers[0]) };
            let won = &won.as_ref().expect("one of them wins").reservation;
            assert_refused(lost.clone(), Code::Aborted, "ETAG_MISMATCH");
            let now = server.reservation(event_id, user).await;
            assert_eq!(now, *won);
            assert!([ReservationState::Confirmed, ReservationState::Cancelled].contains(&now.state()));
        }
    }
    server.check_and_stop().await;
}

/// Confirms if `n` is even, else cancels.
async fn confirm_or_cancel(
    server: &TestServer,
    event_id: &str,
    user: &str,
    etag: &str,
    n: usize,
    mix: &[pb::ExecutionStrategy],
) -> Result<Answer, Status> {
    let (event_id, reservation, etag) = (event_id.to_owned(), of_user(user), etag.to_owned());
    let options = by_turns(mix, n / 2 + n);
    if n.is_multiple_of(2) {
        server.confirm(pb::ConfirmRequest { event_id, reservation, etag, options, ..Default::default() }).await
    } else {
        server.cancel(pb::CancelRequest { event_id, reservation, etag, options, ..Default::default() }).await
    }
}

/// Between the snapshot of a command's read and its event's lock, another transaction may commit. A view in the place
/// of the table stalls the command right there.
#[tokio::test]
async fn rows_read_before_the_lock_are_read_again() {
    const HELD_UP: &str = "
        CREATE FUNCTION hold_up() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            IF starts_with(current_query(), '-- load::lock_free_and_read') THEN
                PERFORM pg_advisory_xact_lock_shared(1);
            END IF;
            RETURN true;
        END $$;
        ALTER TABLE events RENAME TO event_rows;
        CREATE VIEW events AS SELECT * FROM event_rows WHERE hold_up();";
    const AS_BEFORE: &str = "DROP VIEW events; ALTER TABLE event_rows RENAME TO events";
    let server = TestServer::start().await;
    server.event("e", 5).await;
    for user in ["ann", "bob"] {
        server.reserve(reserve("e", user)).await.expect("there is room");
    }
    let mut sql = server.sql().await;
    sql.execute(sqlx::raw_sql(HELD_UP)).await.expect("the view is made");
    sql.execute("SELECT pg_advisory_lock(1)").await.expect("it is held up");
    let (event_id, reservation) = ("e".to_owned(), of_user("ann"));
    let confirm = pb::ConfirmRequest {
        event_id: event_id.clone(),
        reservation: reservation.clone(),
        options: with(pb::ExecutionStrategy::Pessimistic),
        ..Default::default()
    };
    let options = with(pb::ExecutionStrategy::Coalesced);
    let cancel = pb::CancelRequest { event_id, reservation, options, ..Default::default() };
    let (late, ()) = tokio::join!(server.confirm(confirm), async {
        server.waiting(1).await;
        server.cancel(cancel).await.expect("the row is not locked");
        sql.execute("SELECT pg_advisory_unlock(1)").await.expect("it goes on");
    });
    assert_refused(late, Code::FailedPrecondition, "NOT_LIVE");
    sql.execute(sqlx::raw_sql(AS_BEFORE)).await.expect("the table is back");
    server.check_and_stop().await;
}
