//! COALESCED: commands that arrive together are committed together, and callers notice only the speed.
//!
//! A row lock of the test makes a queue form; when it is released, the queue becomes one batch.

use std::{
    fs::{self, File},
    sync::Arc,
};

use reservd::rpc::pb::{self, ExecutionStrategy};
use sqlx::Executor;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};

use crate::support::{
    TestServer, assert_refused, by_id, eventually, millis, of_user, process::TempFolder, reason, reserve, soon, with,
};

/// The database refuses reservations of this user.
const POISON: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.user_id = 'poison' THEN RAISE 'poison'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION refuse()";

type Answer = Result<Response<pb::ReserveResponse>, Status>;

fn wish(event_id: &str, user: &str) -> pb::ReserveRequest {
    pb::ReserveRequest { options: with(ExecutionStrategy::Coalesced), ..reserve(event_id, user) }
}

fn send(server: &TestServer, wish: pb::ReserveRequest) -> JoinHandle<Answer> {
    let mut client = server.reservations();
    tokio::spawn(async move { client.reserve(wish).await })
}

/// Sends calls one after the other, each when the one before waits; the first waits for the row lock.
async fn queue_up(server: &TestServer, wishes: Vec<pb::ReserveRequest>) -> Vec<JoinHandle<Answer>> {
    let mut calls = Vec::new();
    for wish in wishes {
        calls.push(send(server, wish));
        await_queued(server, calls.len()).await;
        if calls.len() == 1 {
            server.waiting(1).await;
        }
    }
    calls
}

/// Waits until this many commands are in the lanes.
async fn await_queued(server: &TestServer, count: usize) {
    let commands = async || server.database.commands_in_lanes() == [count];
    eventually("the commands are in the lanes", commands).await;
}

async fn answers(calls: Vec<JoinHandle<Answer>>) -> Vec<Result<pb::ReserveResponse, Status>> {
    let mut answers = Vec::new();
    for call in calls {
        let answer = soon("every caller is answered", call).await.expect("the call does not panic");
        answers.push(answer.map(Response::into_inner));
    }
    answers
}

fn batch_size(answer: &Result<pb::ReserveResponse, Status>) -> i32 {
    answer.as_ref().expect("it succeeded").execution.expect("a report").batch_size
}

#[tokio::test]
async fn a_lone_command_is_a_batch_of_one() {
    let server = TestServer::start().await;
    server.event("e", 1).await;
    let answer = server.reservations().reserve(wish("e", "ann")).await.expect("there is room").into_inner();
    let report = answer.execution.expect("a report");
    assert_eq!((report.strategy(), report.attempt_count, report.batch_size), (ExecutionStrategy::Coalesced, 1, 1));
    server.check_and_stop().await;
}

#[tokio::test]
async fn waiting_commands_are_committed_together_in_the_order_of_arrival() {
    let server = TestServer::start().await;
    server.event("e", 6).await;
    let held = server.hold_row("e").await;
    let calls = queue_up(&server, (0..10).map(|user| wish("e", &format!("user-{user}"))).collect()).await;
    held.release().await;
    let answers = answers(calls).await;
    for (place, answer) in answers.iter().enumerate() {
        match answer {
            Ok(answer) => {
                let version = answer.reservation.as_ref().expect("a reservation").version;
                assert_eq!(version, 2 + i64::try_from(place).expect("small"), "arrival order is version order");
            }
            Err(status) => assert_eq!(reason(status), "SOLD_OUT"),
        }
    }
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [vec![true; 6], vec![false; 4]].concat());
    assert_eq!(batch_size(&answers[5]), 9, "all that waited for the first one's commit");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_locked_event_delays_only_its_own_callers() {
    let server = TestServer::with(&[("execution.lanes", "1")]).await;
    server.event("locked", 5).await;
    server.event("free", 50).await;
    let held = server.hold_row("locked").await;
    let waiting = queue_up(&server, vec![wish("locked", "ann"), wish("locked", "bob")]).await;
    for user in 0..20 {
        let call = send(&server, wish("free", &format!("user-{user}")));
        soon("an event that is not locked", call).await.expect("no panic").expect("there is room");
    }
    assert!(waiting.iter().all(|call| !call.is_finished()));
    held.release().await;
    assert!(answers(waiting).await.iter().all(Result::is_ok));
    server.check_and_stop().await;
}

#[tokio::test]
async fn equal_commands_in_one_batch_are_decided_one_after_the_other() {
    let server = TestServer::start().await;
    server.event("e", 9).await;
    let held = server.hold_row("e").await;
    let named = |user: &str, quantity, request_id: &str| pb::ReserveRequest {
        quantity,
        request_id: request_id.into(),
        ..wish("e", user)
    };
    let calls = vec![
        wish("e", "first"),
        named("ann", 1, "r-1"),
        named("ann", 1, "r-1"),
        named("ann", 1, "r-2"),
        named("bob", 2, "r-1"),
        named("bob", 2, ""),
    ];
    let calls = queue_up(&server, calls).await;
    held.release().await;
    let answers = answers(calls).await;
    let (ann, again) = (answers[1].as_ref().expect("made"), answers[2].as_ref().expect("answered again"));
    assert_eq!(ann.reservation, again.reservation);
    assert_eq!([ann, again].map(|answer| answer.execution.expect("a report").replayed), [false, true]);
    assert_eq!(answers[3].as_ref().map_err(reason).map(|_| ()), Err("ALREADY_RESERVED".to_owned()));
    assert_eq!(answers[4].as_ref().map_err(reason).map(|_| ()), Err("REQUEST_ID_REUSED".to_owned()));
    assert_eq!(batch_size(&answers[5]), 5, "all of these were one batch");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_whole_life_fits_into_one_batch() {
    let server = TestServer::start().await;
    server.event("e", 2).await;
    let held = server.hold_row("e").await;
    let mut calls = queue_up(&server, vec![wish("e", "first"), wish("e", "ann")]).await;
    let options = with(ExecutionStrategy::Coalesced);
    let (event_id, reservation) = ("e".to_owned(), of_user("ann"));
    let mut client = server.reservations();
    let confirm = pb::ConfirmRequest { event_id, reservation, options, ..Default::default() };
    let confirm = tokio::spawn(async move { client.confirm(confirm).await });
    await_queued(&server, 3).await;
    let (event_id, reservation) = ("e".to_owned(), of_user("ann"));
    let mut client = server.reservations();
    let cancel = pb::CancelRequest { event_id, reservation, options, ..Default::default() };
    let cancel = tokio::spawn(async move { client.cancel(cancel).await });
    await_queued(&server, 4).await;
    calls.push(send(&server, wish("e", "ann")));
    await_queued(&server, 5).await;
    held.release().await;

    let confirmed = soon("confirmed", confirm).await.expect("no panic").expect("a hold").into_inner();
    assert_eq!(confirmed.reservation.expect("it").state(), pb::ReservationState::Confirmed);
    let cancelled = soon("cancelled", cancel).await.expect("no panic").expect("live").into_inner();
    let cancelled = cancelled.reservation.expect("it");
    assert_eq!(cancelled.state(), pb::ReservationState::Cancelled);
    let answers = answers(calls).await;
    assert_eq!(batch_size(&answers[2]), 4);
    let found = pb::GetReservationRequest { event_id: "e".into(), reservation: by_id(&cancelled.reservation_id) };
    let found = server.reservations().get_reservation(found).await.expect("it stays as a record").into_inner();
    assert_eq!(found.reservation.expect("it"), cancelled);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_command_that_the_database_refuses_fails_alone() {
    let server = TestServer::start().await;
    server.event("e", 50).await;
    server.sql().await.execute(sqlx::raw_sql(POISON)).await.expect("the trigger is made");
    let held = server.hold_row("e").await;
    let user = |number| if number == 5 { "poison".to_owned() } else { format!("user-{number}") };
    let calls = queue_up(&server, (0..12).map(|number| wish("e", &user(number))).collect()).await;
    held.release().await;
    for (number, answer) in answers(calls).await.into_iter().enumerate() {
        match (number, answer) {
            (5, answer) => drop(assert_refused(answer, Code::Internal, "INTERNAL")),
            (_, answer) => assert!(answer.is_ok(), "{number}: {answer:?}"),
        }
    }
    assert!(server.metric("reservd_batch_splits_total").await > 0.0);
    server.check_and_stop().await;
}

/// While one batch is written, the next one is decided as if the first were done.
#[tokio::test]
async fn no_caller_is_answered_before_its_batch_is_committed() {
    let server = TestServer::with(&[("execution.max_batch", "1"), ("execution.lanes", "1")]).await;
    server.event("e", 5).await;
    server.sql().await.execute(sqlx::raw_sql(POISON)).await.expect("the trigger is made");
    let mut sql = server.sql().await;
    sql.execute("BEGIN; LOCK TABLE changes IN EXCLUSIVE MODE").await.expect("no command can write");
    let twice = pb::ReserveRequest { request_id: "once".into(), ..wish("e", "poison") };
    let mut calls = Vec::new();
    for wish in [wish("e", "ann"), twice.clone(), twice] {
        calls.push(send(&server, wish));
        await_queued(&server, calls.len()).await;
    }
    server.waiting(1).await;
    sql.execute("COMMIT").await.expect("it goes on");
    let answers = answers(calls).await;
    assert!(answers[0].is_ok());
    for answer in answers.into_iter().skip(1) {
        assert_refused(answer, Code::Internal, "INTERNAL");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let server = TestServer::with(&[("execution.max_queue", "3"), ("execution.lanes", "1")]).await;
    server.event("e", 50).await;
    let held = server.hold_row("e").await;
    let calls = queue_up(&server, (0..4).map(|user| wish("e", &format!("user-{user}"))).collect()).await;
    let refused = server.reservations().reserve(wish("e", "late")).await;
    assert_refused(refused, Code::ResourceExhausted, "OVERLOADED");
    held.release().await;
    assert!(answers(calls).await.iter().all(Result::is_ok));
    server.reservations().reserve(wish("e", "late")).await.expect("there is room again");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_command_whose_deadline_passes_in_the_queue_is_not_executed() {
    let server = TestServer::start().await;
    server.event("e", 5).await;
    let held = server.hold_row("e").await;
    let calls = queue_up(&server, vec![wish("e", "ann"), wish("e", "bob")]).await;
    let mut hasty = Request::new(wish("e", "hasty"));
    hasty.set_timeout(std::time::Duration::from_millis(150));
    let refused = server.reservations().reserve(hasty).await.expect_err("no command gets the lock");
    // The client has a timer of its own, and reports CANCELLED if that fires first; and a slow machine may know in
    // advance that the time is too short.
    let late = [Code::DeadlineExceeded, Code::Cancelled, Code::ResourceExhausted];
    assert!(late.contains(&refused.code()), "{refused:?}");
    held.release().await;
    assert!(answers(calls).await.iter().all(Result::is_ok));
    let seen = pb::ListReservationsRequest { event_id: "e".into(), ..Default::default() };
    let seen = server.reservations().list_reservations(seen).await.expect("a list").into_inner().reservations;
    assert!(seen.iter().all(|reservation| reservation.user_id != "hasty"));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_batch_can_be_limited_to_one_event() {
    let server = TestServer::with(&[("execution.batch_scope", "EVENT"), ("execution.lanes", "1")]).await;
    for event_id in ["a", "b", "c"] {
        server.event(event_id, 20).await;
    }
    let calls = (0..60).map(|n| send(&server, wish(["a", "b", "c"][n % 3], &format!("user-{n}")))).collect();
    assert!(answers(calls).await.iter().all(Result::is_ok));
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_contention_report_names_the_contended_event() {
    let server = TestServer::start().await;
    server.event("quiet", 5).await;
    server.event("hot", 50).await;
    server.reservations().reserve(wish("quiet", "ann")).await.expect("there is room");
    let held = server.hold_row("hot").await;
    let calls = queue_up(&server, (0..20).map(|user| wish("hot", &format!("user-{user}"))).collect()).await;
    held.release().await;
    answers(calls).await;
    let asked = pb::diagnostics::GetContentionReportRequest { window: millis(10_000), limit: 1 };
    let report = server.diagnostics().get_contention_report(asked).await.expect("always on").into_inner();
    let [hot] = report.events.as_slice() else { panic!("one event was asked for: {report:?}") };
    assert_eq!(hot.event_id, "hot");
    let [used] = hot.strategies.as_slice() else { panic!("one strategy was used: {hot:?}") };
    assert_eq!((used.strategy(), used.command_count, used.batch_size_max), (ExecutionStrategy::Coalesced, 20, 19));
    assert!(used.wait_duration_max.is_some_and(|wait| wait.nanos > 0 || wait.seconds > 0));
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_full_disk_is_logged_once_for_all_callers_of_a_batch() {
    const DISK_FULL: &str = "
        CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER disk_full BEFORE INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION disk_full();";
    let server = TestServer::start().await;
    server.event("e", 100).await;
    server.sql().await.execute(sqlx::raw_sql(DISK_FULL)).await.expect("inserts can be made to fail");
    let folder = TempFolder::new();
    let file = Arc::new(File::create(folder.path("log")).expect("a file can be made"));
    // Only this thread's log, and so only that of this test's server.
    let subscriber = tracing_subscriber::fmt().with_writer(file).with_ansi(false).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let held = server.hold_row("e").await;
    let calls = queue_up(&server, (0..8).map(|user| wish("e", &format!("user-{user}"))).collect()).await;
    held.release().await;
    for answer in answers(calls).await {
        assert_eq!(reason(&answer.expect_err("nothing can be written")), "DATABASE_UNAVAILABLE");
    }
    drop(guard);
    let log = fs::read_to_string(folder.path("log")).expect("the log can be read");
    let told: Vec<_> = log.lines().filter(|line| line.contains("the database is unavailable")).collect();
    // The first command was a batch by itself, the other seven are the next batch.
    let [first, second] = told.as_slice() else { panic!("two batches failed: {log}") };
    assert!(first.contains("callers=1") && second.contains("callers=7"), "{log}");
    assert!(told.iter().all(|line| line.contains("no space left")), "the cause is logged: {log}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn two_servers_and_three_strategies_on_the_same_events_never_deadlock() {
    let server = TestServer::start().await;
    let twin = server.twin().await;
    let events: Vec<String> = (0..6).map(|number| format!("event-{number}")).collect();
    for event_id in &events {
        server.event(event_id, 1000).await;
    }
    for round in 0..25 {
        let mut calls = Vec::new();
        for number in 0..48 {
            // Most are coalesced: batches of several events conflict with each other and with single commands.
            let strategy = if number % 6 == 5 { ExecutionStrategy::Pessimistic } else { ExecutionStrategy::Coalesced };
            let event_id = &events[number * 5 % events.len()];
            let wish =
                pb::ReserveRequest { options: with(strategy), ..reserve(event_id, &format!("{round}-{number}")) };
            calls.push(send(if number % 2 == 0 { &server } else { &twin }, wish));
        }
        for answer in answers(calls).await {
            answer.expect("no call blocks another for long");
        }
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = sqlx::query_scalar(deadlocks).fetch_one(&mut server.sql().await).await.expect("statistics");
    assert_eq!(deadlocks, 0);
    twin.app.stop().await;
    server.check_and_stop().await;
}
