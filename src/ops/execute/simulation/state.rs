//! What the servers of a run share: the rows, the row locks, the clock, the faults, and the one source of randomness.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now, time::Instant};

use crate::{
    domain::{
        change::{Change, Subject},
        decide::tests::world::World,
        ids::{EventId, RequestId, ReservationId, UserId},
        reservation::{Reservation, State as ReservationState},
        time::Timestamp,
    },
    store::{
        StoreError,
        write::{EventWrite, NotWritten},
    },
};

/// What can go wrong with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection breaks before the statement arrives.
    Before,
    /// The connection breaks after the statement took effect.
    After,
    /// The connection breaks, and the statement, which still runs, takes effect later.
    Later,
    /// PostgreSQL ends it, as it does with one of two transactions that wait for each other.
    Deadlock,
}

/// The plan of a run: how hostile it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hostility {
    /// How likely a statement meets a fault.
    pub(super) faults: f64,
    /// The longest that a statement travels or works, in milliseconds.
    pub(super) max_pause: u64,
    /// Whether new connections may lead to a standby that lacks the last commits.
    pub(super) loses: bool,
}

/// The shared state. Clones share it.
#[derive(Clone)]
pub(super) struct Shared {
    state: Arc<Mutex<State>>,
    unlocked: Arc<Notify>,
    began: Instant,
    pub(super) hostility: Hostility,
}

/// The rows of the database and what else a run keeps.
pub(super) struct State {
    pub(super) rng: fastrand::Rng,
    pub(super) worlds: BTreeMap<EventId, World>,
    /// Who has each event's row locked.
    locks: BTreeMap<EventId, u64>,
    /// Which primary it is: connections to an earlier one are dead.
    pub(super) epoch: u64,
    /// The events as earlier commits left them, where commits may get lost.
    history: Vec<World>,
    /// Changes that were lost with a primary.
    pub(super) lost: Vec<Change>,
    /// What should never happen, and did.
    pub(super) violations: Vec<String>,
    digest: DefaultHasher,
    next_id: u64,
    is_told: bool,
}

impl Shared {
    pub(super) fn new(rng: fastrand::Rng, worlds: BTreeMap<EventId, World>, hostility: Hostility) -> Self {
        let state = State {
            rng,
            worlds,
            locks: BTreeMap::new(),
            epoch: 0,
            history: Vec::new(),
            lost: Vec::new(),
            violations: Vec::new(),
            digest: DefaultHasher::new(),
            next_id: 0,
            is_told: std::env::var_os("SIMULATE_TRACE").is_some(),
        };
        let (state, unlocked) = (Arc::new(Mutex::new(state)), Arc::default());
        Self { state, unlocked, began: Instant::now(), hostility }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// The database's clock.
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).expect("a run is short");
        Timestamp::from_micros(1_000_000_000 + elapsed).expect("in range")
    }

    /// Adds what happens to the trace.
    pub(super) fn trace(&self, what: &str, number: u64) {
        let now = self.now().micros();
        self.with(|state| {
            (what, number, now).hash(&mut state.digest);
            if state.is_told {
                println!("{:>8.3} {what} {number}", (now - 1_000_000_000) as f64 / 1000.0);
            }
        });
    }

    /// Notes what should never happen.
    pub(super) fn violation(&self, what: String) {
        self.with(|state| state.violations.push(what));
    }

    /// Some time passes, or none; others may run meanwhile.
    pub(super) async fn pause(&self) {
        let (yields, millis) = self.with(|state| (state.rng.u8(..3), state.rng.u64(..=self.hostility.max_pause)));
        for _ in 0..yields {
            yield_now().await;
        }
        if millis > 0 && yields != 2 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// What goes wrong with the next statement.
    pub(super) fn fault(&self) -> Option<Fault> {
        let likelihood = self.hostility.faults;
        self.with(|state| {
            (state.rng.f64() < likelihood).then(|| match state.rng.u8(..8) {
                0..2 => Fault::Before,
                2..4 => Fault::After,
                4..6 => Fault::Later,
                _ => Fault::Deadlock,
            })
        })
    }

    /// Locks an event's row for `who`, waiting for others so long. False: they have not given it back.
    pub(super) async fn lock(&self, who: u64, event_id: &EventId, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let unlocked = self.unlocked.notified();
            if self.with(|state| state.try_lock(who, event_id)) {
                return true;
            }
            let Some(deadline) = deadline else { return false };
            if tokio::time::timeout_at(deadline, unlocked).await.is_err() {
                return false;
            }
        }
    }

    /// Ends the transaction of `who`: what it wrote becomes visible if it commits, and its locks end.
    /// False: its primary, of this epoch, has failed.
    pub(super) fn end(&self, who: u64, epoch: u64, written: BTreeMap<EventId, World>, is_committed: bool) -> bool {
        let is_alive = self.with(|state| {
            let is_alive = epoch == state.epoch;
            if is_committed && is_alive {
                state.commit(written, self.hostility.loses);
            }
            state.locks.retain(|_, holder| *holder != who);
            is_alive
        });
        self.unlocked.notify_waiters();
        is_alive
    }

    /// The primary fails, and a standby takes over.
    pub(super) fn fail_over(&self) {
        self.with(|state| {
            state.epoch += 1;
            state.locks.clear();
            if self.hostility.loses {
                state.lose();
            }
        });
        self.unlocked.notify_waiters();
    }

    /// What identifies the run, to the last bit.
    pub(super) fn digest(&self) -> u64 {
        self.with(|state| {
            let mut changes = String::new();
            for world in state.worlds.values() {
                let _ = write!(changes, "{:?} {:?}", world.event, world.changes);
            }
            changes.hash(&mut state.digest);
            state.digest.finish()
        })
    }
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn try_lock(&mut self, who: u64, event_id: &EventId) -> bool {
        let holder = *self.locks.entry(event_id.clone()).or_insert(who);
        holder == who
    }

    fn commit(&mut self, written: BTreeMap<EventId, World>, is_kept: bool) {
        for (id, world) in written {
            let before = self.worlds.insert(id, world);
            self.history.extend(before.filter(|_| is_kept));
        }
    }

    /// Falls back to what some commits ago was there.
    fn lose(&mut self) {
        for _ in 0..self.rng.usize(..4) {
            let Some(before) = self.history.pop() else { return };
            let Some(world) = self.worlds.get_mut(&before.event.id) else { return };
            self.lost.extend(world.changes.drain(before.changes.len()..));
            *world = before;
        }
    }

    /// Says why an event can't be written, as it is now under its lock.
    pub(super) fn obstacle(&self, write: &EventWrite<'_>, world: &World, now: Timestamp) -> Option<NotWritten> {
        let is_there =
            |id: &RequestId| world.changes.iter().any(|made| made.request.as_ref().is_some_and(|it| it.id == *id));
        let is_live = |user_id: &UserId| world.rows.values().any(|row| row.state.is_live() && row.user_id == *user_id);
        let is_mistaken =
            write.assumptions.iter().any(|one| is_live(one.user_id) || one.request_id.is_some_and(is_there));
        if world.event.counters.version != write.seen.version {
            Some(NotWritten::Changed)
        } else if write.valid_until().is_some_and(|end| end <= now) {
            Some(NotWritten::Late)
        } else {
            is_mistaken.then_some(NotWritten::Mispredicted)
        }
    }

    /// Writes what was decided, and holds it against every rule that PostgreSQL holds it against, and some more.
    pub(super) fn apply(
        &mut self,
        write: &EventWrite<'_>,
        world: &mut World,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for commit in &write.commits {
            if commit.valid_until.is_some_and(|end| end <= now) {
                return Err(self.refuse("a decision is written after the moment until which it holds"));
            }
            if commit.ends_all.as_ref().is_some_and(|ends| ends.totals.entries as usize != world.queue().len()) {
                return Err(self.refuse("more or fewer entries end than were counted"));
            }
            let ended = commit.ends_all.as_ref().map_or(0, |ends| ends.totals.reservations + ends.totals.entries);
            let expected = world.changes.len() as i64 + i64::from(ended) + 1;
            if commit.changes.first().is_some_and(|change| change.version != expected) {
                return Err(self.refuse("changes_pkey: a version is skipped, or made twice"));
            }
            for change in &commit.changes {
                if let Err(problem) = check_change(world, change, commit.creates, now) {
                    return Err(self.refuse(problem));
                }
            }
            world.write(commit, now);
        }
        world.event.counters = write.counters();
        match check_rows(world) {
            Ok(()) => Ok(()),
            Err(problem) => Err(self.refuse(problem)),
        }
    }

    fn refuse(&mut self, problem: &str) -> StoreError {
        self.violations.push(format!("the database has to refuse: {problem}"));
        StoreError::Check(problem.to_owned())
    }
}

fn check_change(
    world: &World,
    change: &Change,
    creates: Option<ReservationId>,
    now: Timestamp,
) -> Result<(), &'static str> {
    let is_used =
        |id: &RequestId| world.changes.iter().any(|made| made.request.as_ref().is_some_and(|it| it.id == *id));
    if change.request.as_ref().is_some_and(|request| is_used(&request.id)) {
        return Err("changes_request: a request_id is used twice");
    }
    let Subject::Reservation(row) = &change.subject else { return Ok(()) };
    match (world.rows.get(&row.id), creates == Some(row.id)) {
        (Some(_), true) => Err("reservations_pkey: a reservation is made twice"),
        (None, false) => Err("a reservation is changed that is not there"),
        (Some(before), false) if before.has_lapsed(now) && row.state != ReservationState::Expired => {
            Err("a hold is changed after its time")
        }
        (Some(before), false) if !before.state.is_live() => Err("a reservation is changed that has ended"),
        (None, true) if !world.event.is_open(now) => Err("a reservation is made while the event takes none"),
        _ => Ok(()),
    }
}

fn check_rows(world: &World) -> Result<(), &'static str> {
    if world.event.counters.reserved() > world.event.definition.capacity {
        return Err("events_never_oversold");
    }
    let live: Vec<&Reservation> = world.rows.values().filter(|row| row.state.is_live()).collect();
    if live.iter().any(|row| live.iter().any(|other| other.id != row.id && other.user_id == row.user_id)) {
        return Err("reservations_one_live_per_user");
    }
    let queue = world.queue();
    if queue.iter().any(|entry| queue.iter().any(|other| other.id != entry.id && other.user_id == entry.user_id)) {
        return Err("waitlist_one_per_user");
    }
    Ok(())
}
