//! The exact end of a hold: a command before it wins, a command after it is refused, and the units are free at once,
//! for every caller.

use reservd::rpc::pb::{self, ExecutionStrategy, ReservationState};
use tonic::Code;

use crate::support::{
    MIXES, Observer, STRATEGIES, TestServer, all, assert_refused, by_turns, eventually, millis, of_user, patient_and,
    reserve, sorted, with,
};

/// The expiry worker does not run.
const NO_EXPIRY: (&str, &str) = ("expiry.interval", "1h");

fn hold_for(ttl_millis: i64, event_id: &str, user_id: &str) -> pb::ReserveRequest {
    pb::ReserveRequest { hold_ttl: millis(ttl_millis), ..reserve(event_id, user_id) }
}

fn confirm(event_id: &str, user_id: &str) -> pb::ConfirmRequest {
    pb::ConfirmRequest { event_id: event_id.into(), reservation: of_user(user_id), ..Default::default() }
}

#[tokio::test]
async fn a_confirm_that_waits_past_the_end_of_its_hold_is_refused() {
    let server = TestServer::with(&patient_and(&[NO_EXPIRY])).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 1).await;
        let hold = server.reserve(hold_for(1000, event_id, "ann")).await.expect("there is room").reservation;
        let row = server.hold_row(event_id).await;
        let call = server.confirm(pb::ConfirmRequest { options: with(strategy), ..confirm(event_id, "ann") });
        let release = async {
            server.waiting(1).await;
            server.until(hold.expire_time, 0).await;
            row.release().await;
        };
        let (answer, ()) = tokio::join!(call, release);
        assert_refused(answer, Code::FailedPrecondition, "HOLD_EXPIRED");
        assert_eq!(server.history(event_id, Some("ann")).await, ["HELD"]);
        if strategy == ExecutionStrategy::Pessimistic {
            // The command read the clock once it had the row lock, so one attempt was enough.
            let retries = "reservd_retries_total{operation=\"confirm\",strategy=\"PESSIMISTIC\"}";
            assert_eq!(server.metric(retries).await, 0.0);
        }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn other_changes_that_wait_past_the_end_of_their_hold_are_refused_too() {
    let server = TestServer::with(&patient_and(&[NO_EXPIRY])).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 6).await;
        for user in ["ann", "bob"] {
            server.reserve(hold_for(1000, event_id, user)).await.expect("there is room");
        }
        let last = server.reserve(hold_for(1000, event_id, "cid")).await.expect("there is room").reservation;
        let (row, options) = (server.hold_row(event_id).await, with(strategy));
        let (event_id, reservation) = (event_id.to_owned(), of_user("ann"));
        let extend = pb::ExtendRequest { event_id: event_id.clone(), reservation, options, ..Default::default() };
        let (quantity, reservation) = (2, of_user("bob"));
        let amend = pb::AmendRequest {
            event_id: event_id.clone(),
            reservation,
            quantity: Some(quantity),
            options,
            ..Default::default()
        };
        let cancel = pb::CancelRequest {
            event_id: event_id.clone(),
            reservation: of_user("cid"),
            options,
            ..Default::default()
        };
        let release = async {
            server.waiting(3).await;
            server.until(last.expire_time, 0).await;
            row.release().await;
        };
        let (extended, amended, cancelled, ()) =
            tokio::join!(server.extend(extend), server.amend(amend), server.cancel(cancel), release);
        for answer in [extended, amended, cancelled] {
            assert_refused(answer, Code::FailedPrecondition, "HOLD_EXPIRED");
        }
        assert_eq!(server.history(&event_id, None).await, ["EVENT_CREATED", "HELD", "HELD", "HELD"]);
    }
    server.check_and_stop().await;
}

/// The commit may take any time: a confirmation written in time stands, and a command that found the hold lapsed
/// meanwhile sees the confirmation before it writes.
#[tokio::test]
async fn a_confirm_made_in_time_wins_though_it_commits_late() {
    let server = TestServer::with(&patient_and(&[("expiry.interval", "1ms")])).await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        server.event(event_id, 1).await;
        let hold = server.reserve(hold_for(3000, event_id, "ann")).await.expect("there is room").reservation;
        let commits = server.hold_commits().await;
        let request =
            pb::ConfirmRequest { request_id: "r".into(), options: with(strategy), ..confirm(event_id, "ann") };
        let first = server.confirm(request.clone());
        let late = async {
            server.waiting(1).await;
            server.until(hold.expire_time, 0).await;
            let again = STRATEGIES
                .map(|strategy| server.confirm(pb::ConfirmRequest { options: with(strategy), ..request.clone() }));
            let others = STRATEGIES.map(|strategy| {
                server.reserve(pb::ReserveRequest {
                    options: with(strategy),
                    ..reserve(event_id, strategy.as_str_name())
                })
            });
            let release = async {
                // The first, the four others, and the expiry worker.
                server.waiting(6).await;
                commits.release().await;
            };
            tokio::join!(all(again), all(others), release)
        };
        let (first, (again, others, ())) = tokio::join!(first, late);
        let first = first.expect("it was in time");
        assert_eq!(first.reservation.state(), ReservationState::Confirmed);
        for answer in again {
            let answer = answer.expect("the same request has the same answer");
            assert!(answer.execution.replayed);
            assert_eq!(answer.reservation, first.reservation);
        }
        for answer in others {
            assert_refused(answer, Code::FailedPrecondition, "SOLD_OUT");
        }
        assert_eq!(server.history(event_id, None).await, ["EVENT_CREATED", "HELD", "CONFIRMED"]);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn of_confirm_and_expiry_at_the_same_moment_one_wins() {
    let settings = patient_and(&[("expiry.interval", "3ms")]);
    let server = TestServer::with(&settings).await;
    let twin = server.twin_with(&settings).await;
    for (name, mix) in MIXES {
        all((0..8).map(|n| confirm_at_the_end(&server, format!("{name}-{n}"), mix, n))).await;
    }
    twin.app.stop().await;
    assert_holds_ended_once(&server).await;
    server.check_and_stop().await;
}

/// Confirms from just before the end of a hold to just after it, and compares the answer with the history.
async fn confirm_at_the_end(server: &TestServer, event_id: String, mix: &[ExecutionStrategy], n: usize) {
    server.event(&event_id, 1).await;
    let micros = i64::try_from(n).expect("small") * 700 - 4900;
    let hold = server.reserve(hold_for(100, &event_id, "ann")).await.expect("there is room").reservation;
    server.until(hold.expire_time, micros).await;
    let request = pb::ConfirmRequest { options: by_turns(mix, n), ..confirm(&event_id, "ann") };
    match server.confirm(request).await {
        Ok(answer) => {
            assert_eq!(server.reservation(&event_id, "ann").await, answer.reservation);
            assert_eq!(server.history(&event_id, Some("ann")).await, ["HELD", "CONFIRMED"]);
        }
        refused => {
            assert_refused(refused, Code::FailedPrecondition, "HOLD_EXPIRED");
            eventually("the hold is released", async || {
                server.history(&event_id, Some("ann")).await == ["HELD", "EXPIRED"]
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_units_of_a_lapsed_hold_are_free_before_expiry_runs() {
    let server = TestServer::with(&patient_and(&[NO_EXPIRY])).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 2).await;
        server.reserve(hold_for(100, event_id, "ann")).await.expect("there is room");
        let hold = server.reserve(hold_for(100, event_id, "bob")).await.expect("there is room").reservation;
        server.until(hold.expire_time, 0).await;
        let observer = Observer::of(&server, event_id).await;
        // Ann is among them: her own lapsed hold blocks no user, not even her.
        let users: Vec<_> = (0..11).map(|n| format!("user-{n}")).chain(["ann".to_owned()]).collect();
        let calls = users.iter().enumerate().map(|(n, user)| {
            server.reserve(pb::ReserveRequest { options: by_turns(mix, n), ..reserve(event_id, user) })
        });
        let (sold, refused) = sorted(server.race(event_id, 12, calls).await);
        assert_eq!((sold.len(), refused.len()), (2, 10), "{event_id}: {refused:?}");
        observer.finish().await;
        let history = server.history(event_id, None).await;
        assert_eq!(history.iter().filter(|kind| *kind == "EXPIRED").count(), 2, "{history:?}");
    }
    assert_holds_ended_once(&server).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn expiry_on_two_servers_releases_each_hold_once_and_no_confirmed_one() {
    let settings = patient_and(&[("expiry.interval", "3ms"), ("expiry.batch", "7")]);
    let server = TestServer::with(&settings).await;
    let twin = server.twin_with(&settings).await;
    let events: Vec<_> = (0..6).map(|n| format!("event-{n}")).collect();
    all(events.iter().map(|event_id| server.event(event_id, 100))).await;
    let lives = events.iter().flat_map(|event_id| (0..20).map(move |n| (event_id, n)));
    let confirmed = all(lives.map(async |(event_id, n)| {
        let user = format!("user-{n}");
        let request = hold_for(100 + n % 7 * 10, event_id, &user);
        server.reserve(request).await.expect("there is room");
        // Late confirmations are refused; the history shows either outcome.
        n % 3 == 0 && twin.confirm(confirm(event_id, &user)).await.is_ok()
    }))
    .await;
    let confirmed = confirmed.into_iter().filter(|is_confirmed| *is_confirmed).count();

    let mut sql = server.sql().await;
    eventually("every lapsed hold is released", async || {
        let held: i64 = sqlx::query_scalar("SELECT count(*) FROM reservations WHERE state = 'HELD'")
            .fetch_one(&mut sql)
            .await
            .expect("reservations can be counted");
        held == 0
    })
    .await;
    let ended: (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE kind = 'RESERVATION_CONFIRMED'), count(*) FILTER (WHERE kind = 'RESERVATION_EXPIRED') FROM changes",
    )
    .fetch_one(&mut sql)
    .await
    .expect("changes can be counted");
    let confirmed = i64::try_from(confirmed).expect("a count");
    assert_eq!(ended, (confirmed, 120 - confirmed), "each hold ended once, as its holder was answered");
    twin.app.stop().await;
    assert_holds_ended_once(&server).await;
    server.check_and_stop().await;
}

/// Over all events: no hold was confirmed at or after its end, none was released before it, none ended twice, and each
/// row agrees with its last change.
async fn assert_holds_ended_once(server: &TestServer) {
    const WRONG: &str = "
        SELECT r.event_id || ' ' || r.user_id || ': ' || string_agg(c.kind, ', ' ORDER BY c.version)
          FROM reservations r
          JOIN changes h USING (event_id, reservation_id)
          JOIN changes c USING (event_id, reservation_id)
         WHERE h.kind = 'RESERVATION_HELD'
         GROUP BY r.event_id, r.reservation_id, h.version
        HAVING bool_or(c.kind = 'RESERVATION_CONFIRMED' AND c.change_time >= h.expire_time)
            OR bool_or(c.kind = 'RESERVATION_EXPIRED' AND c.change_time < h.expire_time)
            OR count(*) FILTER (WHERE c.kind IN ('RESERVATION_CONFIRMED', 'RESERVATION_EXPIRED')) > 1
            OR r.state <> (array_agg(c.state ORDER BY c.version DESC))[1]";
    let wrong: Vec<String> = sqlx::query_scalar(WRONG).fetch_all(&mut server.sql().await).await.expect("a history");
    assert_eq!(wrong, Vec::<String>::new());
}
