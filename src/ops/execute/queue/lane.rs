//! The state of a lane, pure: which commands wait, which batch is being read for or written, and what is decided next.
//!
//! One function changes it, [`Lane::transition`], and tells what is to be done: read, write, reply. It does no IO and
//! reads no clock.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    speculation::{Speculation, decide, decide_on_read},
    waiting::Waiting,
};
use crate::{
    config::{BatchScope, Execution},
    domain::{command::Command, ids::EventId},
    ops::execute::{
        event_cache::{Cached, EventCache},
        retry::{BatchResult, Executed},
        unit::Job,
        working_set::{Draft, Effects, WorkingSet},
    },
    store::Context,
};

/// A queue of commands, and the batches made of it.
pub(super) struct Lane<T> {
    settings: Execution,
    waiting: Waiting<T>,
    /// The batch that is being written.
    writing: Option<Writing>,
    /// The batch after it; or, where none is being written, the one that is read for.
    next: Next<T>,
    /// How many commands are read for.
    in_hand: usize,
    cache: EventCache,
    /// How long a batch takes, lately.
    average: Duration,
    /// What was read ahead of time was of no use. The batch after the next one is not decided ahead then.
    was_in_vain: bool,
    skips_ahead: bool,
}

struct Writing {
    /// What it does. None: that was not decided before it was sent.
    effects: Option<Arc<Effects>>,
    is_sent: bool,
    began: Instant,
}

enum Next<T> {
    /// Nothing is decided.
    None,
    /// It is being read for.
    Reading(Upon),
    /// It is decided. While it is open, a Reserve that needs no read joins it as it comes.
    Ready { jobs: Vec<T>, draft: Box<Speculation>, is_open: bool },
}

/// What a read is overlaid with, since it may show it or not.
enum Upon {
    /// Nothing: no batch is being written.
    Nothing,
    /// The batch that is being written.
    Writing,
    /// A batch that was written as planned.
    Written(Arc<Effects>),
    /// A batch that was not: the read is of no use.
    Void,
}

/// What happens to a lane.
pub(super) enum Input<T> {
    /// A command comes.
    Submit(T),
    /// A write is on its way to PostgreSQL, or commands have come since.
    Sent,
    /// A read has ended. None: it failed.
    Read(Reading<T>, Option<Context>),
    /// A write has ended.
    Written(BatchResult<T>),
    /// A batch of a contended event has ended.
    ContendedDone(EventId, BatchResult<T>),
}

/// What is to be done.
pub(super) enum Step<T> {
    /// Read for a batch.
    Read(Reading<T>),
    /// Write a batch, as it was decided if it was. What was decided rests on the connections made so far.
    Write(Vec<T>, Option<Draft>),
    /// Execute a batch of a contended event under its row lock.
    RunContended(EventId, Vec<T>),
    /// Reply to a batch that was executed, after what else is to be done is on its way.
    Reply(Executed<T>),
    /// Refuse a command.
    Refuse(T, &'static str),
}

/// A batch that is read for.
pub(super) struct Reading<T> {
    pub(super) jobs: Vec<T>,
    /// What is cached for some of them; the others are read for.
    cached: Option<Cached>,
    /// How many connections had been made before.
    connections: u64,
}

impl<T: Job> Reading<T> {
    /// The commands that need the read.
    pub(super) fn commands(&self) -> Vec<&Command> {
        let is_cached = |place: usize| self.cached.as_ref().is_some_and(|cached| cached.is_speculative[place]);
        let jobs = self.jobs.iter().enumerate().filter(|(place, _)| !is_cached(*place));
        jobs.map(|(_, job)| job.command()).collect()
    }
}

impl<T: Job> Lane<T> {
    pub(super) fn new(settings: Execution) -> Self {
        let cache = EventCache::new(settings.cached_events.div_ceil(settings.lanes.max(1)));
        Self {
            settings,
            waiting: Waiting::new(settings),
            writing: None,
            next: Next::None,
            in_hand: 0,
            cache,
            average: Duration::ZERO,
            was_in_vain: false,
            skips_ahead: false,
        }
    }

    /// Takes in what happens at `now`, with so many connections made, and says what is to be done.
    pub(super) fn transition(&mut self, input: Input<T>, connections: u64, now: Instant) -> Vec<Step<T>> {
        let mut steps = Vec::new();
        match input {
            Input::Submit(job) => {
                self.submit(job, now, &mut steps);
                // While a batch is being written, what comes is decided when its writer has nothing more urgent to do.
                if self.writing.is_some() {
                    return steps;
                }
            }
            Input::Sent => {
                if let Some(writing) = &mut self.writing {
                    writing.is_sent = true;
                }
            }
            Input::Read(reading, context) => self.read(reading, context, connections, now, &mut steps),
            Input::Written(result) => self.written(result, now, &mut steps),
            Input::ContendedDone(event_id, result) => self.contended_done(event_id, result, &mut steps),
        }
        self.advance(connections, now, &mut steps);
        steps
    }

    /// Puts a command at the end of the queue; refuses where that is full, or so long that the command's deadline would
    /// pass before its turn.
    fn submit(&mut self, job: T, now: Instant, steps: &mut Vec<Step<T>>) {
        if self.len() >= self.settings.max_queue {
            return steps.push(Step::Refuse(job, "too many commands are waiting"));
        }
        if now + self.expected_wait() > job.deadline() {
            return steps.push(Step::Refuse(job, "the wait would be longer than the call's deadline"));
        }
        let command = job.command();
        if self.waiting.is_contended(&command.event_id) || command.ends_all() {
            return self.divert(vec![job], steps);
        }
        self.waiting.push(job);
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.in_hand + self.next.len()
    }

    /// Whether nothing waits, is read for or written.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0 && self.writing.is_none() && matches!(self.next, Next::None)
    }

    /// How long a command that comes now will have to wait, if all goes on as it does.
    fn expected_wait(&self) -> Duration {
        let batches = self.len() / self.settings.max_batch.max(1) + usize::from(self.writing.is_some());
        self.average * u32::try_from(batches).unwrap_or(u32::MAX)
    }

    /// Decides the next batch, and sends it, as far as that can be done now.
    fn advance(&mut self, connections: u64, now: Instant, steps: &mut Vec<Step<T>>) {
        match (&self.writing, &self.next) {
            (None, Next::Ready { .. }) => self.send(now, steps),
            (None, Next::None) => {
                let jobs = self.waiting.take();
                if !jobs.is_empty() {
                    self.plan(jobs, None, connections, now, steps);
                    if matches!(self.next, Next::Ready { .. }) {
                        self.send(now, steps);
                    }
                }
            }
            (Some(Writing { effects: Some(effects), is_sent: true, .. }), Next::None)
                if !self.skips_ahead && !self.was_in_vain =>
            {
                let effects = Arc::clone(effects);
                let jobs = self.waiting.take();
                if !jobs.is_empty() {
                    self.plan(jobs, Some(&effects), connections, now, steps);
                }
            }
            (Some(Writing { effects: Some(effects), .. }), Next::Ready { is_open: true, .. }) => {
                let effects = Arc::clone(effects);
                self.join_ready(&effects, connections, now);
            }
            _ => {}
        }
    }

    /// Sends the batch that is ready.
    fn send(&mut self, now: Instant, steps: &mut Vec<Step<T>>) {
        let Next::Ready { jobs, draft, .. } = std::mem::replace(&mut self.next, Next::None) else { return };
        let draft = draft.into_draft();
        self.write(jobs, Some(draft), now, steps);
    }

    fn write(&mut self, jobs: Vec<T>, draft: Option<Draft>, now: Instant, steps: &mut Vec<Step<T>>) {
        let effects = draft.as_ref().map(|draft| Arc::clone(&draft.effects));
        self.writing = Some(Writing { effects, is_sent: false, began: now });
        steps.push(Step::Write(jobs, draft));
    }

    /// Decides a batch on what is cached, upon the effects of the one that is being written; or has it read for.
    fn plan(
        &mut self,
        jobs: Vec<T>,
        effects: Option<&Arc<Effects>>,
        connections: u64,
        now: Instant,
        steps: &mut Vec<Step<T>>,
    ) {
        let mut cached = self.cache.get(&jobs, connections, now);
        if let Some(all) = cached.take_if(|cached| cached.is_speculative.iter().all(|is_speculative| *is_speculative)) {
            let context = Context { now: all.now, snapshots: all.snapshots };
            let decided = decide(&jobs, context, effects.map(|effects| &**effects), now);
            if let Some(set) = decided.filter(WorkingSet::is_all_accepted) {
                let draft = Box::new(Speculation { set, speculative: all.is_speculative, connections });
                self.next = Next::Ready { jobs, draft, is_open: true };
                return;
            }
        }
        self.start_reading(jobs, cached, effects.is_some(), connections, steps);
    }

    fn start_reading(
        &mut self,
        jobs: Vec<T>,
        cached: Option<Cached>,
        is_ahead: bool,
        connections: u64,
        steps: &mut Vec<Step<T>>,
    ) {
        self.next = Next::Reading(if is_ahead { Upon::Writing } else { Upon::Nothing });
        self.in_hand += jobs.len();
        steps.push(Step::Read(Reading { jobs, cached, connections }));
    }

    /// Takes in a read.
    fn read(
        &mut self,
        reading: Reading<T>,
        context: Option<Context>,
        connections: u64,
        now: Instant,
        steps: &mut Vec<Step<T>>,
    ) {
        let Reading { mut jobs, cached, connections: before } = reading;
        self.in_hand -= jobs.len();
        let Next::Reading(upon) = std::mem::replace(&mut self.next, Next::None) else { return };
        let waiting = &self.waiting;
        let diverted: Vec<_> = jobs.extract_if(.., |job| waiting.is_contended(&job.command().event_id)).collect();
        let was_changed = !diverted.is_empty();
        self.divert(diverted, steps);
        if jobs.is_empty() {
            return;
        }
        let is_ahead = !matches!(upon, Upon::Nothing);
        let effects = match (&upon, &self.writing) {
            (Upon::Writing, Some(writing)) => writing.effects.clone(),
            (Upon::Written(effects), _) => Some(Arc::clone(effects)),
            _ => None,
        };
        let is_void = matches!(upon, Upon::Void) || was_changed && cached.is_some();
        let draft = context
            .filter(|_| !is_void)
            .and_then(|context| decide_on_read(&jobs, context, cached.as_ref(), effects.as_deref(), before, now));
        match draft {
            Some(draft) => {
                let is_open = draft.set.is_all_decided();
                self.next = Next::Ready { jobs, draft: Box::new(draft), is_open };
            }
            // What can't be decided here is read, decided and written in one attempt.
            None if !is_ahead && cached.is_none() => self.write(jobs, None, now, steps),
            None if self.writing.is_none() => self.start_reading(jobs, None, false, connections, steps),
            None => {
                self.was_in_vain = true;
                self.waiting.give_back(jobs);
            }
        }
    }

    /// Takes in what came of a batch.
    fn written(&mut self, result: BatchResult<T>, now: Instant, steps: &mut Vec<Step<T>>) {
        let Some(Writing { effects, began, .. }) = self.writing.take() else { return };
        self.average = (self.average * 7 + now.saturating_duration_since(began)) / 8;
        let BatchResult { as_planned, written, diverted } = result;
        let went_as_planned = as_planned.is_some();
        if let Some(effects) = &effects {
            match &written {
                Some(written) => self.cache.update(effects, written),
                None => self.cache.forget(effects),
            }
        }
        let is_void = !went_as_planned && !matches!(self.next, Next::None);
        self.skips_ahead = std::mem::take(&mut self.was_in_vain) || is_void;
        self.next = match (std::mem::replace(&mut self.next, Next::None), effects) {
            (Next::Reading(Upon::Writing), Some(effects)) if went_as_planned => Next::Reading(Upon::Written(effects)),
            (Next::Reading(Upon::Writing), _) => Next::Reading(Upon::Void),
            (Next::Ready { jobs, .. }, _) if !went_as_planned => {
                // It was decided upon what has not come to be.
                self.waiting.give_back(jobs);
                Next::None
            }
            (next, _) => next,
        };
        self.divert(diverted.into_iter().map(|(job, _)| job).collect(), steps);
        steps.extend(as_planned.map(Step::Reply));
    }

    /// Gives the events of these commands queues of their own, and executes what waits there.
    fn divert(&mut self, jobs: Vec<T>, steps: &mut Vec<Step<T>>) {
        for event_id in self.waiting.divert(jobs) {
            self.run_contended(event_id, steps);
        }
    }

    /// Executes what waits for a contended event, if anything does.
    fn run_contended(&mut self, event_id: EventId, steps: &mut Vec<Step<T>>) {
        if let Some(jobs) = self.waiting.take_contended(&event_id) {
            steps.push(Step::RunContended(event_id, jobs));
        }
    }

    /// Takes in what came of a batch of a contended event. What had to be put off comes first in the next one.
    fn contended_done(&mut self, event_id: EventId, result: BatchResult<T>, steps: &mut Vec<Step<T>>) {
        self.waiting.put_first(&event_id, result.diverted.into_iter().map(|(job, _)| job).collect());
        steps.extend(result.as_planned.map(Step::Reply));
        self.run_contended(event_id, steps);
    }

    /// Lets Reserves that need no read join the batch that is ready, up to the first command that needs one: from there
    /// on all go on waiting.
    fn join_ready(&mut self, effects: &Effects, connections: u64, now: Instant) {
        let Next::Ready { jobs, draft, is_open } = &mut self.next else { return };
        while *is_open && jobs.len() < self.settings.max_batch {
            let Some(job) = self.waiting.first() else { return };
            let is_of_scope = self.settings.batch_scope == BatchScope::Any
                || jobs.first().is_some_and(|first| first.command().event_id == job.command().event_id);
            let event = self.cache.get_one(job, connections).filter(|_| is_of_scope);
            let joins = draft.connections == connections
                && event.is_some_and(|event| draft.set.speculate(job, event, effects, now));
            if !joins {
                *is_open = false;
                return;
            }
            draft.speculative.resize(jobs.len(), false);
            draft.speculative.push(true);
            jobs.extend(self.waiting.pop());
        }
    }
}

impl<T> Next<T> {
    fn len(&self) -> usize {
        if let Self::Ready { jobs, .. } = self { jobs.len() } else { 0 }
    }
}
