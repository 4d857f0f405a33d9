//! A decision rests on moments: the opening and the close of booking, the end of a hold. A decision that is made before such a moment
//! and would be written after it is void, whatever delayed the write.

use prost_types::{FieldMask, Timestamp};
use reservd::rpc::pb::{self, ExecutionOptions, ExecutionStrategy};
use tokio::sync::Mutex;
use tonic::Status;

use crate::support::{
    Call, EVERY_LOCK, EVERY_ROW, EVERY_UPDATE, TestServer, all, entry_of_user, join, new_id, of_user, patient_and,
    reason, reserve, strict, with,
};

/// The moments on which decisions rest: the opening and the close of the event's booking, the end of its holds.
const OPENING: &str = "opening";
const CLOSE: &str = "close";
const LAPSE: &str = "lapse";

/// Each of these tests takes half of PostgreSQL's connections for all tests.
static TURN: Mutex<()> = Mutex::const_new(());

/// A call that is accepted before the moment.
struct Case {
    moment: &'static str,
    name: &'static str,
    call: fn(Request) -> Call,
    /// Why it is refused after the moment. None: it is accepted, but promotes no waitlist entry.
    refusal: Option<&'static str>,
}

const NOT_OPEN: Option<&str> = Some("EVENT_NOT_OPEN");
const EXPIRED: Option<&str> = Some("HOLD_EXPIRED");
const NOT_SOLD_OUT: Option<&str> = Some("NOT_SOLD_OUT");

/// Each has an event of its own: of four units Ann holds two and Bob has one, and in the cases named `queue-…` Cid
/// waits for two units, and behind that Dan for one.
const CASES: [Case; 15] = [
    Case { moment: OPENING, name: "early-join", call: Request::join, refusal: NOT_SOLD_OUT },
    Case { moment: CLOSE, name: "hold", call: |to| to.reserve(false), refusal: NOT_OPEN },
    Case { moment: CLOSE, name: "book", call: |to| to.reserve(true), refusal: NOT_OPEN },
    Case { moment: LAPSE, name: "confirm", call: Request::confirm, refusal: EXPIRED },
    Case { moment: LAPSE, name: "extend", call: Request::extend, refusal: EXPIRED },
    Case { moment: LAPSE, name: "cancel", call: |to| to.cancel("ann", 0), refusal: EXPIRED },
    Case { moment: LAPSE, name: "cancel-one", call: |to| to.cancel("ann", 1), refusal: EXPIRED },
    Case { moment: LAPSE, name: "shrink", call: |to| to.amend("ann", 1), refusal: EXPIRED },
    Case { moment: LAPSE, name: "grow", call: |to| to.amend("ann", 3), refusal: EXPIRED },
    Case { moment: CLOSE, name: "grow-held", call: |to| to.amend("ann", 3), refusal: NOT_OPEN },
    Case { moment: CLOSE, name: "grow-confirmed", call: |to| to.amend("bob", 2), refusal: NOT_OPEN },
    Case { moment: CLOSE, name: "queue-join", call: Request::join, refusal: NOT_OPEN },
    Case { moment: CLOSE, name: "queue-leave", call: Request::leave, refusal: None },
    Case { moment: CLOSE, name: "queue-cancel", call: |to| to.cancel("bob", 0), refusal: None },
    Case { moment: CLOSE, name: "queue-resize", call: Request::resize, refusal: None },
];

/// The common part of all requests.
struct Request {
    event_id: String,
    options: Option<ExecutionOptions>,
}

impl Request {
    fn reserve(self, confirm: bool) -> Call {
        let Self { event_id, options } = self;
        pb::ReserveRequest { confirm, options, ..reserve(&event_id, "eve") }.into()
    }

    fn confirm(self) -> Call {
        let Self { event_id, options } = self;
        pb::ConfirmRequest { event_id, reservation: of_user("ann"), options, ..Default::default() }.into()
    }

    fn extend(self) -> Call {
        let Self { event_id, options } = self;
        pb::ExtendRequest { event_id, reservation: of_user("ann"), options, ..Default::default() }.into()
    }

    fn cancel(self, user: &str, quantity: i32) -> Call {
        let Self { event_id, options } = self;
        pb::CancelRequest {
            event_id,
            reservation: of_user(user),
            quantity: Some(quantity).filter(|quantity| *quantity > 0),
            request_id: new_id(),
            options,
            ..Default::default()
        }
        .into()
    }

    fn amend(self, user: &str, quantity: i32) -> Call {
        let Self { event_id, options } = self;
        pb::AmendRequest {
            event_id,
            reservation: of_user(user),
            quantity: Some(quantity).filter(|quantity| *quantity > 0),
            options,
            ..Default::default()
        }
        .into()
    }

    fn join(self) -> Call {
        let Self { event_id, options } = self;
        pb::JoinWaitlistRequest { options, ..join(&event_id, "eve", 1) }.into()
    }

    fn leave(self) -> Call {
        let Self { event_id, options } = self;
        pb::LeaveWaitlistRequest { event_id, entry: entry_of_user("cid"), options, ..Default::default() }.into()
    }

    fn resize(self) -> Call {
        let event = pb::Event { event_id: self.event_id, capacity: 9, ..Default::default() };
        let update_mask = Some(FieldMask { paths: vec!["capacity".into()] });
        pb::UpdateEventRequest { event: Some(event), update_mask, ..Default::default() }.into()
    }
}

/// The outcome of one call.
struct Outcome {
    event_id: String,
    case: &'static Case,
    answer: Result<(), Status>,
    promoted: Vec<String>,
}

/// Makes the calls of all cases, by each of these strategies. They are decided while `lock` keeps them from being
/// written, and written `after` the moment or before it. None: the moment came before all of them were decided.
async fn outcomes(
    lock: &'static str,
    strategies: &[ExecutionStrategy],
    seconds: i64,
    after: bool,
) -> Option<Vec<Outcome>> {
    let _turn = TURN.lock().await;
    let settings = patient_and(&[
        // Only these calls release holds and promote entries.
        ("expiry.interval", "1h"),
        ("waitlist.promotion_interval", "1h"),
        ("execution.max_lock_wait", "5min"),
    ]);
    let server = TestServer::with(&[&settings[..], &[("database.max_connections", "40")]].concat()).await;
    let settings = [&settings[..], &[("database.max_connections", "2")]].concat();
    let (mut twins, mut calls) = (Vec::new(), Vec::new());
    for case in &CASES {
        for &strategy in strategies {
            let event_id = format!("{}-{}-{}", case.moment, case.name, strategy.as_str_name());
            prepare(&server, &event_id, case.name.starts_with("queue-")).await;
            // Two commands that one server coalesces could be in one batch, and then only one of them would wait.
            if strategy == ExecutionStrategy::Coalesced {
                twins.push(server.twin_with(&settings).await);
            }
            calls.push((event_id, case, strategy, twins.len()));
        }
    }
    let moment = moments_come_in(&server, seconds).await;
    let stall = server.stall(lock).await;
    let requests = calls.iter().map(async |(event_id, case, strategy, twins_before)| {
        let server = if *strategy == ExecutionStrategy::Coalesced { &twins[twins_before - 1] } else { &server };
        (case.call)(Request { event_id: event_id.clone(), options: with(*strategy) }).send(server).await
    });
    let release = async {
        server.waiting(calls.len()).await;
        let is_in_time = !has_come(&server, moment).await;
        if is_in_time && after {
            server.until(Some(moment), 0).await;
        }
        stall.release().await;
        is_in_time
    };
    let (answers, is_in_time) = tokio::join!(all(requests), release);
    let mut outcomes = Vec::new();
    for ((event_id, case, ..), answer) in calls.into_iter().zip(answers) {
        let promoted = server.promoted(&event_id).await;
        outcomes.push(Outcome { event_id, case, answer, promoted });
    }
    for twin in twins {
        twin.app.stop().await;
    }
    server.check_and_stop().await;
    is_in_time.then_some(outcomes)
}

async fn prepare(server: &TestServer, event_id: &str, with_queue: bool) {
    let policy = pb::WaitlistPolicy { join_before_booking: true, ..strict() };
    server.event_with_waitlist(event_id, 4, policy).await;
    server.reserve(pb::ReserveRequest { quantity: 2, ..reserve(event_id, "ann") }).await.expect("there is room");
    server.reserve(pb::ReserveRequest { confirm: true, ..reserve(event_id, "bob") }).await.expect("there is room");
    if with_queue {
        server.join(join(event_id, "cid", 2)).await.expect("one unit is too few");
        server.join(join(event_id, "dan", 1)).await.expect("others wait");
    }
}

/// Moves the moments of the events to this many seconds from now.
async fn moments_come_in(server: &TestServer, seconds: i64) -> Timestamp {
    const MOMENT: &str = "SELECT extract(epoch FROM clock_timestamp())::bigint + $1";
    const MOVE: [&str; 3] = [
        "UPDATE events SET booking_open_time = to_timestamp($1) WHERE event_id LIKE 'opening-%'",
        "UPDATE events SET booking_close_time = to_timestamp($1) WHERE event_id LIKE 'close-%'",
        "UPDATE reservations SET expire_time = to_timestamp($1) WHERE event_id LIKE 'lapse-%' AND state = 'HELD'",
    ];
    let mut sql = server.sql().await;
    let moment: i64 = sqlx::query_scalar(MOMENT).bind(seconds).fetch_one(&mut sql).await.expect("a moment");
    for update in MOVE {
        sqlx::query(update).bind(moment).execute(&mut sql).await.expect("they can be moved");
    }
    Timestamp { seconds: moment, nanos: 0 }
}

async fn has_come(server: &TestServer, moment: Timestamp) -> bool {
    let asked = sqlx::query_scalar("SELECT clock_timestamp() >= to_timestamp($1)").bind(moment.seconds);
    asked.fetch_one(&mut server.sql().await).await.expect("the clock can be read")
}

/// Asserts that a decision made before a moment is not written after it.
async fn void_after_the_moment(lock: &'static str, strategies: &[ExecutionStrategy]) {
    // On a slow machine the moment must be further away.
    for seconds in [2, 10, 60] {
        let Some(outcomes) = outcomes(lock, strategies, seconds, true).await else { continue };
        let is_right = |one: &Outcome| {
            one.answer.as_ref().err().map(reason).as_deref() == one.case.refusal && one.promoted.is_empty()
        };
        let wrong = outcomes.iter().filter(|one| !is_right(one));
        let wrong: Vec<_> =
            wrong.map(|one| format!("{}: {:?}, promoted {:?}", one.event_id, one.answer, one.promoted)).collect();
        assert!(wrong.is_empty(), "decided before the moment and written after it:\n{}", wrong.join("\n"));
        return;
    }
    panic!("the calls were not decided in time");
}

#[tokio::test]
async fn a_decision_that_waits_for_its_row_is_not_written_after_its_moment() {
    void_after_the_moment(EVERY_ROW, &[ExecutionStrategy::Pessimistic, ExecutionStrategy::Optimistic]).await;
}

#[tokio::test]
async fn a_decision_made_on_a_read_is_not_written_after_its_moment() {
    void_after_the_moment(EVERY_LOCK, &[ExecutionStrategy::Optimistic, ExecutionStrategy::Coalesced]).await;
}

#[tokio::test]
async fn a_decision_made_under_the_row_lock_is_not_written_after_its_moment() {
    void_after_the_moment(EVERY_UPDATE, &[ExecutionStrategy::Pessimistic]).await;
}

/// The same calls succeed before the moment, so only the moment explains the refusals.
#[tokio::test]
async fn a_decision_written_before_its_moment_is_accepted() {
    let outcomes =
        outcomes(EVERY_UPDATE, &[ExecutionStrategy::Pessimistic], 3600, false).await.expect("it is an hour away");
    for Outcome { event_id, case, answer, promoted } in outcomes {
        answer.unwrap_or_else(|status| panic!("{event_id}: {status:?}"));
        assert_eq!(promoted.is_empty(), case.refusal.is_some(), "{event_id}");
    }
}
