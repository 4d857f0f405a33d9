//! The model of PostgreSQL, as the engine sees it: connections on which statements travel, take effect, and get lost.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::state::{Fault, Shared};
use crate::{
    domain::{
        command::Command,
        decide::tests::world::World,
        ids::EventId,
        needs::Needs,
        snapshot::{Loaded, Snapshot},
        time::Timestamp,
    },
    ops::execute::database::{Conn, Database},
    store::{
        Budget, Context, LockWait, StoreError,
        write::{EventWrite, NotWritten, WriteMode, Written},
    },
};

/// The connections of one server.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) shared: Shared,
    made: Arc<AtomicU64>,
    /// The primary that the connections lead to.
    epoch: Arc<AtomicU64>,
}

/// A connection, or a transaction on one.
pub(super) struct ModelConn {
    shared: Shared,
    id: u64,
    epoch: u64,
    /// With a transaction, its limits.
    budget: Option<Budget>,
    /// What it has written and not committed.
    written: BTreeMap<EventId, World>,
    /// Whether that is a statement on its own, which goes on where the connection is dropped.
    is_in_flight: bool,
}

fn cut() -> sqlx::Error {
    sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset))
}

impl Model {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, made: Arc::default(), epoch: Arc::default() }
    }

    async fn connect(&self, deadline: Instant, budget: Option<Budget>) -> Result<ModelConn, StoreError> {
        self.shared.pause().await;
        if Instant::now() >= deadline {
            return Err(StoreError::PoolExhausted);
        }
        if self.shared.fault() == Some(Fault::Before) {
            return Err(StoreError::Unavailable(cut()));
        }
        let is_faulty = self.shared.hostility.faults > 0.0;
        let (id, epoch, is_new) =
            self.shared.with(|state| (state.next_id(), state.epoch, is_faulty && state.rng.u8(..32) == 0));
        if self.epoch.swap(epoch, Ordering::Relaxed) != epoch || is_new {
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        let shared = self.shared.clone();
        Ok(ModelConn { shared, id, epoch, budget, written: BTreeMap::new(), is_in_flight: false })
    }
}

impl Database for Model {
    type Conn = ModelConn;

    async fn autocommit(&self, _: Instant, deadline: Instant) -> Result<ModelConn, StoreError> {
        self.connect(deadline, None).await
    }

    async fn begin(&self, budget: Budget, _: &[&Command]) -> Result<ModelConn, StoreError> {
        self.connect(budget.deadline, Some(budget)).await
    }

    fn connections_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn note(&self, _: &StoreError) {}
}

impl ModelConn {
    /// A statement travels. An error: it does not arrive.
    async fn travel(&self, what: &str) -> Result<Option<Fault>, StoreError> {
        self.shared.pause().await;
        self.shared.trace(what, self.id);
        if !self.is_alive() {
            return Err(StoreError::Unavailable(cut()));
        }
        match self.shared.fault() {
            Some(Fault::Before) => Err(StoreError::Unavailable(cut())),
            Some(Fault::Deadlock) => Err(StoreError::Repeat(cut())),
            other => Ok(other),
        }
    }

    /// The answer to a statement that only reads travels back.
    async fn answer<T>(&self, fault: Option<Fault>, value: T) -> Result<T, StoreError> {
        self.shared.pause().await;
        if fault.is_some() || !self.is_alive() { Err(StoreError::Unavailable(cut())) } else { Ok(value) }
    }

    fn is_alive(&self) -> bool {
        self.shared.with(|state| state.epoch == self.epoch)
    }

    /// An event as this connection sees it.
    fn world(&self, event_id: &EventId) -> Option<World> {
        self.written.get(event_id).cloned().or_else(|| self.shared.with(|state| state.worlds.get(event_id).cloned()))
    }

    /// What commands are decided on, at one moment.
    fn context(&self, commands: &[&Command]) -> Context {
        let mut ids: Vec<_> = commands.iter().map(|command| &command.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let load = |id: &EventId| {
            let of_event = commands.iter().filter(|command| command.event_id == *id).copied();
            Some((id.clone(), self.world(id)?.load(of_event)))
        };
        Context { now: self.shared.now(), snapshots: ids.into_iter().filter_map(load).collect() }
    }

    /// Locks the rows to write; returns those that could not be locked. An error: a wait took too long.
    async fn lock_rows(&self, writes: &[EventWrite<'_>], limit: Option<Duration>) -> Result<Vec<EventId>, StoreError> {
        let mut locked_by_others = Vec::new();
        for write in writes {
            // Only a row of the version that was seen is locked at all.
            let version = self.world(write.event_id).map(|world| world.event.counters.version);
            if version == Some(write.seen.version) && !self.shared.lock(self.id, write.event_id, limit).await {
                if limit.is_some() {
                    return Err(StoreError::LockTimeout);
                }
                locked_by_others.push(write.event_id.clone());
            }
        }
        Ok(locked_by_others)
    }

    /// Writes, under the locks, what can be written.
    fn write_locked(
        &mut self,
        writes: &[EventWrite<'_>],
        mode: WriteMode,
        locked_by_others: &[EventId],
        asked: Instant,
    ) -> Result<Written, StoreError> {
        let now = self.shared.now();
        let mut passed_over = HashMap::new();
        let mut ours = Vec::new();
        for write in writes {
            let Some(world) = self.world(write.event_id) else { continue };
            let obstacle = self.shared.with(|state| state.obstacle(write, &world, now));
            let is_locked = locked_by_others.contains(write.event_id);
            match obstacle.or(is_locked.then_some(NotWritten::Locked)) {
                Some(why) => _ = passed_over.insert(write.event_id.clone(), why),
                None => ours.push((write, world)),
            }
        }
        let is_plain = writes.len() == 1 && !mode.is_explained && self.shared.with(|state| state.rng.bool());
        if is_plain {
            passed_over.values_mut().for_each(|why| *why = NotWritten::Unexplained);
        }
        if ours.is_empty() || mode.is_whole && !passed_over.is_empty() {
            return Ok(Written { passed_over, time: None });
        }
        for (write, mut world) in ours {
            self.shared.with(|state| state.apply(write, &mut world, now))?;
            self.written.insert(write.event_id.clone(), world);
        }
        Ok(Written { passed_over, time: Some((now, asked)) })
    }

    /// Commits a statement that is a transaction of its own, or loses it on the way.
    async fn commit_statement(&mut self, fault: Option<Fault>) -> Result<(), StoreError> {
        self.is_in_flight = true;
        self.shared.pause().await;
        self.is_in_flight = false;
        let written = std::mem::take(&mut self.written);
        if fault == Some(Fault::Later) {
            self.leave_behind(written);
            return Err(StoreError::OutcomeUnknown(cut()));
        }
        let is_alive = self.shared.end(self.id, self.epoch, written, true);
        self.shared.trace("committed", self.id);
        if is_alive && fault.is_none() { Ok(()) } else { Err(StoreError::OutcomeUnknown(cut())) }
    }

    /// The statement goes on without its connection, and is committed later, or not.
    fn leave_behind(&mut self, written: BTreeMap<EventId, World>) {
        let (shared, id, epoch) = (self.shared.clone(), self.id, self.epoch);
        self.id = shared.with(super::state::State::next_id);
        tokio::spawn(async move {
            shared.pause().await;
            shared.pause().await;
            let is_committed = shared.with(|state| state.rng.bool());
            shared.end(id, epoch, written, is_committed);
            shared.trace("ended alone", id);
        });
    }
}

impl Drop for ModelConn {
    fn drop(&mut self) {
        let written = std::mem::take(&mut self.written);
        if self.is_in_flight {
            self.leave_behind(written);
        } else {
            self.shared.end(self.id, self.epoch, BTreeMap::new(), false);
        }
    }
}

impl Conn for ModelConn {
    async fn read(&mut self, commands: &[&Command]) -> Result<Context, StoreError> {
        let fault = self.travel("read").await?;
        let context = self.context(commands);
        self.answer(fault, context).await
    }

    async fn lock_and_read(
        &mut self,
        commands: &[&Command],
        wait: LockWait,
    ) -> Result<(Context, Duration), StoreError> {
        let fault = self.travel("lock_and_read").await?;
        let asked = Instant::now();
        let budget = self.budget.expect("only a transaction locks");
        let mut ids: Vec<_> = commands.iter().map(|command| &command.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let left = budget.deadline.saturating_duration_since(Instant::now()).min(budget.max_lock_wait);
            let limit = (wait == LockWait::Wait).then(|| left + Duration::from_millis(1));
            if !self.shared.lock(self.id, id, limit).await {
                return Err(StoreError::LockTimeout);
            }
        }
        let context = self.context(commands);
        self.answer(fault, (context, asked.elapsed())).await
    }

    async fn load(
        &mut self,
        snapshots: &BTreeMap<EventId, Snapshot>,
        needs: &BTreeMap<EventId, Needs>,
        now: Timestamp,
    ) -> Result<Option<BTreeMap<EventId, Loaded>>, StoreError> {
        let mut loaded = BTreeMap::new();
        for (id, needs) in needs {
            let fault = self.travel("load").await?;
            let Some(snapshot) = snapshots.get(id) else { continue };
            let Some(world) = self.world(id) else { continue };
            if needs.holds.is_some() && world.event.counters.version != snapshot.version_read() {
                return self.answer(fault, None).await;
            }
            let is_by_size = snapshot.event.definition.waitlist.max_skips > 0;
            let found = self.answer(fault, world.find(needs, is_by_size, now)).await?;
            loaded.insert(id.clone(), found);
        }
        Ok(Some(loaded))
    }

    async fn write(&mut self, writes: &[EventWrite<'_>], mode: WriteMode) -> Result<Written, StoreError> {
        let asked = Instant::now();
        let is_alone = self.budget.is_none();
        let fault = self.travel("write").await.map_err(|error| match error {
            StoreError::Unavailable(error) if is_alone => StoreError::OutcomeUnknown(error),
            error => error,
        })?;
        let limit = mode.lock_timeout.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        let locked_by_others = self.lock_rows(writes, limit).await?;
        let written = self.write_locked(writes, mode, &locked_by_others, asked)?;
        if is_alone {
            self.commit_statement(fault).await?;
        }
        self.shared.pause().await;
        if !is_alone && (fault.is_some() || !self.is_alive()) {
            return Err(StoreError::Unavailable(cut()));
        }
        Ok(written)
    }

    async fn end<T: Send>(mut self, result: Result<T, StoreError>, commits: bool) -> Result<T, StoreError> {
        let (Some(budget), Ok(_), true) = (self.budget, &result, commits) else {
            let is_late = self.budget.is_some_and(|budget| Instant::now() >= budget.deadline);
            return result.map_err(|error| match error {
                StoreError::LockTimeout if is_late => StoreError::Deadline,
                error => error,
            });
        };
        if Instant::now() >= budget.deadline {
            return Err(StoreError::Deadline);
        }
        match self.travel("commit").await {
            Ok(fault) => self.commit_statement(fault).await?,
            Err(StoreError::Unavailable(error)) => return Err(StoreError::OutcomeUnknown(error)),
            Err(error) => return Err(error),
        }
        result
    }
}
