//! The commands that wait in a lane: in one queue, or in the queue of a contended event.

use std::collections::{HashMap, VecDeque};

use crate::{
    config::{BatchScope, Execution},
    domain::ids::EventId,
    ops::execute::unit::Job,
};

/// The commands that wait.
pub(super) struct Waiting<T> {
    settings: Execution,
    queue: VecDeque<T>,
    /// Events that others have locked or changed: each has a queue of its own, which works under the row lock.
    contended: HashMap<EventId, VecDeque<T>>,
}

impl<T: Job> Waiting<T> {
    pub(super) fn new(settings: Execution) -> Self {
        Self { settings, queue: VecDeque::new(), contended: HashMap::new() }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.contended.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether an event has a queue of its own.
    pub(super) fn is_contended(&self, event_id: &EventId) -> bool {
        self.contended.contains_key(event_id)
    }

    /// The first in the queue.
    pub(super) fn first(&self) -> Option<&T> {
        self.queue.front()
    }

    /// Takes the first out of the queue.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.queue.pop_front()
    }

    /// Adds a command at the end of the queue.
    pub(super) fn push(&mut self, job: T) {
        self.queue.push_back(job);
    }

    /// Puts back what was taken last to where it was.
    pub(super) fn give_back(&mut self, jobs: Vec<T>) {
        jobs.into_iter().rev().for_each(|job| self.queue.push_front(job));
    }

    /// Takes commands for a batch.
    pub(super) fn take(&mut self) -> Vec<T> {
        let most = self.settings.max_batch;
        match (self.settings.batch_scope, self.queue.front()) {
            (_, None) => Vec::new(),
            (BatchScope::Any, _) => self.queue.drain(..self.queue.len().min(most)).collect(),
            (BatchScope::Event, Some(first)) => {
                let event_id = first.command().event_id.clone();
                self.take_of_one_event(&event_id, most)
            }
        }
    }

    /// Takes commands on this event; the others keep their order.
    fn take_of_one_event(&mut self, event_id: &EventId, most: usize) -> Vec<T> {
        let (mut taken, mut kept) = (Vec::new(), VecDeque::with_capacity(self.queue.len()));
        for job in self.queue.drain(..) {
            if taken.len() < most && job.command().event_id == *event_id {
                taken.push(job);
            } else {
                kept.push_back(job);
            }
        }
        self.queue = kept;
        taken
    }

    /// Gives the events of these commands queues of their own, which what waits for them follows into. Returns the
    /// events that had none.
    pub(super) fn divert(&mut self, jobs: Vec<T>) -> Vec<EventId> {
        let mut fresh = Vec::new();
        for job in jobs {
            let event_id = job.command().event_id.clone();
            let queue = self.contended.entry(event_id.clone()).or_insert_with(|| {
                fresh.push(event_id);
                VecDeque::new()
            });
            queue.push_back(job);
        }
        if !fresh.is_empty() {
            let mut kept = VecDeque::with_capacity(self.queue.len());
            for job in self.queue.drain(..) {
                match self.contended.get_mut(&job.command().event_id) {
                    Some(queue) => queue.push_back(job),
                    None => kept.push_back(job),
                }
            }
            self.queue = kept;
        }
        fresh
    }

    /// Takes commands on a contended event. None: nothing waits for it, and it is contended no longer.
    pub(super) fn take_contended(&mut self, event_id: &EventId) -> Option<Vec<T>> {
        let queue = self.contended.get_mut(event_id)?;
        if queue.is_empty() {
            self.contended.remove(event_id);
            return None;
        }
        Some(queue.drain(..queue.len().min(self.settings.max_batch)).collect())
    }

    /// Puts commands at the front of the queue of their contended event.
    pub(super) fn put_first(&mut self, event_id: &EventId, jobs: Vec<T>) {
        if let Some(queue) = self.contended.get_mut(event_id) {
            jobs.into_iter().rev().for_each(|job| queue.push_front(job));
        }
    }
}

#[cfg(test)]
mod tests;
