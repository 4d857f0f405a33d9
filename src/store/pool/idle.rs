//! The connections that are not lent, and the transactions that are begun for callers that wait for one.
//!
//! PESSIMISTIC begins with a round trip for BEGIN. While all connections are lent and a caller waits for one to begin a
//! transaction on, `COMMIT AND CHAIN` begins it in the round trip that ends the transaction before: one of four is saved.
//! No connection is left like that unless a caller is about to take it.

use parking_lot::Mutex;

use super::Pooled;

/// The connections that are not lent, the one used last at the end; and how many callers wait for one.
#[derive(Default)]
pub(super) struct Idle {
    pub(super) connections: Vec<Pooled>,
    /// How many wait for a connection to begin a transaction on.
    to_begin: usize,
    /// How many wait for a connection that is in no transaction.
    others: usize,
    /// How many transactions are being begun for those that wait.
    promised: usize,
}

/// How a transaction ends.
#[derive(Clone, Copy)]
pub(in crate::store) enum End {
    Commit,
    Rollback,
}

impl End {
    /// The statement, which also begins the next transaction where `begins_next`.
    pub(super) const fn sql(self, begins_next: bool) -> &'static str {
        match (self, begins_next) {
            (Self::Commit, false) => "COMMIT",
            (Self::Commit, true) => "COMMIT AND CHAIN",
            (Self::Rollback, false) => "ROLLBACK",
            (Self::Rollback, true) => "ROLLBACK AND CHAIN",
        }
    }
}

impl Idle {
    /// The connection that was used last. Using the warm one first lets surplus connections reach their maximum age.
    /// Preferably one on which a transaction is begun, or is not, as it is wanted.
    pub(super) fn take(&mut self, to_begin: bool) -> Option<Pooled> {
        let begun = to_begin || self.has_too_many_begun();
        let wanted = self.connections.iter().rposition(|pooled| pooled.is_begun == begun);
        wanted.map(|index| self.connections.remove(index)).or_else(|| self.connections.pop())
    }

    /// Takes a connection back. Returns one on which a transaction is begun that no caller wants.
    pub(super) fn give_back(&mut self, pooled: Pooled) -> Option<Pooled> {
        if pooled.is_begun && self.to_begin <= self.begun() {
            return Some(pooled);
        }
        self.connections.push(pooled);
        None
    }

    /// Promises a begun transaction to those that wait, if that saves one of them a round trip. Where others wait too, it
    /// could come to one of these, and cost a round trip more.
    pub(super) fn promise(&mut self) -> bool {
        let is_of_use = self.others == 0 && self.to_begin > self.begun() + self.promised;
        self.promised += usize::from(is_of_use);
        is_of_use
    }

    /// A promise is kept, or void.
    pub(super) fn promise_is_kept(&mut self) {
        self.promised -= 1;
    }

    /// On how many a transaction is begun.
    fn begun(&self) -> usize {
        self.connections.iter().filter(|pooled| pooled.is_begun).count()
    }

    /// Whether there is one more of them than those that wait will take.
    fn has_too_many_begun(&self) -> bool {
        self.begun() > self.to_begin + self.others
    }

    fn waiting(&mut self, to_begin: bool) -> &mut usize {
        if to_begin { &mut self.to_begin } else { &mut self.others }
    }
}

/// A caller that waits for a connection.
pub(super) struct Waiting<'a> {
    idle: &'a Mutex<Idle>,
    to_begin: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(idle: &'a Mutex<Idle>, to_begin: bool) -> Self {
        *idle.lock().waiting(to_begin) += 1;
        Self { idle, to_begin }
    }

    /// Ends the wait with the permit to have a connection.
    pub(super) fn take(self) -> Option<Pooled> {
        let Self { idle, to_begin } = self;
        std::mem::forget(self); // or it would be counted off twice
        let mut idle = idle.lock();
        *idle.waiting(to_begin) -= 1;
        idle.take(to_begin)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock();
        *idle.waiting(self.to_begin) -= 1;
        // Perhaps a transaction was begun for this one, which gave up.
        if idle.has_too_many_begun() {
            drop(idle.take(true));
        }
    }
}
