//! CancelEvent: an event and all its reservations end in one step, also among concurrent commands.

use reservd::rpc::pb::{self, EventState, ReservationState};
use sqlx::Executor;

use crate::support::{
    Answer, MIXES, Observer, PATIENT, TestServer, all, by_turns, of_user, reason, reserve, soon, sorted,
};

fn cancel_event(event_id: &str) -> pb::CancelEventRequest {
    pb::CancelEventRequest { event_id: event_id.into(), reason: "rain".into(), ..Default::default() }
}

#[tokio::test]
async fn cancelling_an_event_ends_all_concurrent_reserves_and_confirms() {
    let server = TestServer::with(&PATIENT).await;
    for (event_id, mix) in MIXES {
        server.event(event_id, 100).await;
        for n in 0..4 {
            server.reserve(reserve(event_id, &format!("held-{n}"))).await.expect("there is room");
        }
        let observer = Observer::of(&server, event_id).await;
        let calls = (0..8).map(|n| reserve_or_confirm(&server, event_id, n, by_turns(mix, n)));
        let cancelled = async {
            // In the middle of the queue.
            server.waiting(4).await;
            server.events().cancel_event(cancel_event(event_id)).await.expect("it is open").into_inner()
        };
        let (answers, cancelled) = tokio::join!(server.race(event_id, 9, calls), cancelled);
        let event = cancelled.event.expect("the event");
        assert_eq!(
            (event.state(), event.counts.unwrap_or_default().held, event.counts.unwrap_or_default().confirmed),
            (EventState::Cancelled, 0, 0)
        );

        let (done, refused) = sorted(answers);
        let is_new = |answer: &&Answer| answer.reservation.user_id.starts_with("new");
        let live = 4 + done.iter().filter(is_new).count();
        assert_eq!(cancelled.cancelled_reservation_count, i32::try_from(live).expect("a few"));
        assert!(done.iter().all(|answer| answer.execution.event_version < event.version), "all came before the end");
        for status in refused {
            assert!(["EVENT_NOT_OPEN", "NOT_LIVE"].contains(&reason(&status).as_str()), "{status:?}");
        }
        let last = observer.finish().await.pop().expect("it has looked");
        assert_eq!((last.state.as_str(), last.held_rows, last.confirmed_rows), ("CANCELLED", 0, 0));
    }
    server.check_and_stop().await;
}

/// Reserves for a new user if `n` is even, else confirms a user's hold.
async fn reserve_or_confirm(
    server: &TestServer,
    event_id: &str,
    n: usize,
    options: Option<pb::ExecutionOptions>,
) -> Result<Answer, tonic::Status> {
    if n.is_multiple_of(2) {
        return server.reserve(pb::ReserveRequest { options, ..reserve(event_id, &format!("new-{n}")) }).await;
    }
    let (event_id, reservation) = (event_id.to_owned(), of_user(&format!("held-{}", n / 2)));
    server.confirm(pb::ConfirmRequest { event_id, reservation, options, ..Default::default() }).await
}

#[tokio::test]
async fn thousands_of_reservations_end_with_their_event_in_one_step() {
    let server = TestServer::with(&PATIENT).await;
    let mut sql = server.sql().await;
    server.event("show", 10_000).await;
    server.event("other", 10).await;
    server.reserve(reserve("other", "user-1")).await.expect("there is room");
    // 3,000 live ones, of which 1,000 have lapsed, and 1,000 that had ended before.
    let fill = "
        SET TRANSACTION READ WRITE;
        INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                                  extensions, version, create_time, update_time)
        SELECT 'show', gen_random_uuid(), 'user-' || n, 2, s.state,
               CASE WHEN s.state = 'HELD' THEN now() + interval '1 hour' * CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END END,
               CASE WHEN s.state = 'CONFIRMED' THEN now() END, 0, n + 1, now(), now()
          FROM generate_series(1, 4000) n,
               LATERAL (SELECT (ARRAY['HELD', 'HELD', 'CONFIRMED', 'CANCELLED'])[n % 4 + 1] AS state) s;
        INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, quantity, state,
                             expire_time, confirm_time, extensions, create_time)
        SELECT event_id, version, state, update_time, reservation_id, user_id, quantity, state,
               expire_time, confirm_time, extensions, create_time
          FROM reservations WHERE event_id = 'show';
        UPDATE events SET held = 4000, confirmed = 2000, version = 4001 WHERE event_id = 'show';";
    sql.execute(sqlx::raw_sql(fill)).await.expect("the event can be filled");
    let observer = Observer::of(&server, "show").await;

    let others = (0..20).map(|n| server.reserve(reserve("other", &format!("user-{n}"))));
    let mut events = server.events();
    let (cancelled, others) =
        tokio::join!(soon("it is cancelled", events.cancel_event(cancel_event("show"))), all(others));
    let cancelled = cancelled.expect("it is open").into_inner();
    assert_eq!(cancelled.cancelled_reservation_count, 2000, "lapsed holds were not there to cancel");
    assert_eq!(cancelled.event.expect("the event").version, 4001 + 3000 + 1, "each ends with a change of its own");
    assert_eq!(sorted(others).0.len(), 9, "other events go on");

    let seen = observer.finish().await;
    let steps: Vec<_> = seen.iter().map(|at| (at.state.as_str(), at.held_rows, at.confirmed_rows)).collect();
    assert_eq!(steps, [("OPEN", 4000, 2000), ("CANCELLED", 0, 0)], "all or none, at every instant");
    let counts: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "SELECT state, cancel_reason, count(*) FROM reservations WHERE event_id = 'show' GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .fetch_all(&mut sql)
    .await
    .expect("reservations can be counted");
    let rain = Some("rain".to_owned());
    assert_eq!(
        counts,
        [("CANCELLED".into(), rain, 2000), ("CANCELLED".into(), None, 1000), ("EXPIRED".into(), None, 1000)],
    );
    let one = server.reservation("show", "user-2").await;
    assert_eq!((one.state(), one.cancel_reason.as_str()), (ReservationState::Cancelled, "rain"));
    server.check_and_stop().await;
}
