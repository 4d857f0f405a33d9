//! Units of several events: all their commands are written, or none.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    caller::{Server, event_id, user_id},
    server, settings,
    state::{Hostility, Shared},
    world,
};
use crate::{
    domain::{
        caller::Caller,
        command::{Action, Command, Reserve, ReserveMode},
        ids::ReservationId,
        limits::Labels,
        refusal::Refusal,
    },
    ops::execute::{
        Single,
        attempt::{Attempted, Mode, attempt},
        database::{Conn, Database},
        unit::{Atomicity, BY_VERSION, ConcurrencyControl, Diversion, Outcome},
        working_set::{Draft, Progress, WorkingSet},
    },
    store::{LockWait, write::NotWritten},
};

const CONTROLS: [ConcurrencyControl; 3] =
    [BY_VERSION, ConcurrencyControl::Version { waits: true }, ConcurrencyControl::RowLock(LockWait::Wait)];

/// Two events of three units each, and a server.
fn two_events() -> (Shared, Server) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut sized = |number| {
        let mut world = world(number, &mut rng, true);
        world.event.definition.capacity = 3;
        (event_id(number), world)
    };
    let worlds = BTreeMap::from([sized(0), sized(1)]);
    let settings = settings(&mut rng, true);
    let shared = Shared::new(rng, worlds, Hostility { faults: 0.0, max_pause: 1, loses: false });
    (shared.clone(), server(&shared, settings))
}

fn reserve(event: u8, user: u8, quantity: u32) -> Single {
    let action = Action::Reserve(Reserve {
        id: ReservationId(Uuid::now_v7()),
        user_id: user_id(user),
        quantity,
        mode: ReserveMode::Confirm,
        labels: Labels::default(),
    });
    let (event_id, etag, caller) = (event_id(event), None, Caller::default());
    let command = Command { event_id, action, etag, expected_event_version: None, request: None, caller };
    Single::new(command, Instant::now() + Duration::from_secs(60))
}

fn mode(control: ConcurrencyControl) -> Mode {
    let max_lock_wait = Duration::from_secs(60);
    Mode { control, atomicity: Atomicity::Whole, is_dry_run: false, is_explained: true, max_lock_wait }
}

async fn execute(server: &Server, control: ConcurrencyControl, unit: &[Single], draft: Option<Draft>) -> Attempted {
    let attempted = attempt(&server.env, unit, &mode(control), draft).await;
    attempted.expect("the database is there").expect("no moment has come")
}

/// Decides a unit on what there is now, to be written later.
async fn decide(server: &Server, unit: &[Single]) -> Draft {
    let now = Instant::now();
    let mut conn = server.env.database.autocommit(now, now + Duration::from_secs(60)).await.expect("it connects");
    let commands: Vec<_> = unit.iter().map(|job| &job.command).collect();
    let mut set = WorkingSet::new(conn.read(&commands).await.expect("it reads"));
    assert_eq!(set.proceed(unit, BY_VERSION, now), Progress::Done);
    set.into_draft()
}

/// How many units of each event are reserved.
fn reserved(shared: &Shared) -> Vec<u32> {
    shared.with(|state| {
        state.worlds.values().for_each(|world| world.check());
        state.worlds.values().map(|world| world.event.counters.reserved()).collect()
    })
}

#[tokio::test(start_paused = true)]
async fn a_unit_of_two_events_is_written_whole() {
    for control in CONTROLS {
        let (shared, server) = two_events();
        let done = execute(&server, control, &[reserve(1, 1, 1), reserve(0, 1, 2)], None).await;
        assert!(done.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted(_))), "{done:?}");
        assert_eq!(reserved(&shared), [2, 1], "{control:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_unit_is_written_where_one_of_its_commands_is_refused() {
    for control in CONTROLS {
        let (shared, server) = two_events();
        let refused = execute(&server, control, &[reserve(0, 1, 2), reserve(1, 1, 4)], None).await;
        let [Outcome::Diverted(Diversion::Unit), Outcome::Refused(Refusal::SoldOut { .. })] = &refused.outcomes[..]
        else {
            panic!("{refused:?}")
        };
        assert_eq!(reserved(&shared), [0, 0], "{control:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_unit_is_written_where_one_of_its_events_has_changed() {
    let (shared, server) = two_events();
    let unit = [reserve(0, 1, 2), reserve(1, 1, 2)];
    let draft = decide(&server, &unit).await;
    execute(&server, BY_VERSION, &[reserve(1, 2, 1)], None).await;
    let late = execute(&server, BY_VERSION, &unit, Some(draft)).await;
    for outcome in &late.outcomes {
        assert!(matches!(outcome, Outcome::Diverted(Diversion::NotWritten(NotWritten::Changed))), "{late:?}");
    }
    assert_eq!(reserved(&shared), [0, 1]);
}
