//! The types of an execution: its options, its answer, how it is exclusive, its jobs and what becomes of each.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    config::Strategy,
    domain::{change::Change, command::Command, commit::Commit, refusal::Refusal},
    ops::{OpError, stats::ExecStats},
    store::{LockWait, write::NotWritten},
};

/// How to execute a command.
#[derive(Clone, Copy, Debug)]
pub struct ExecOptions {
    /// How to be exclusive.
    pub strategy: Strategy,
    /// What to do when the event's row is locked.
    pub lock_wait: LockWait,
    /// When the caller stops listening.
    pub deadline: Instant,
    /// Decide, but change nothing.
    pub validate_only: bool,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The change that answers the command.
    pub change: Box<Change>,
    /// Whether it was made before, by the same request.
    pub replayed: bool,
    /// What it took.
    pub stats: ExecStats,
}

/// How an attempt is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConcurrencyControl {
    /// By the events' versions: read without locks, then write, in one statement that is the whole transaction, what
    /// has not changed since. A row that another transaction has locked is waited for, or passed over.
    Version {
        /// Whether to wait for a locked row.
        waits: bool,
    },
    /// By the events' row locks, taken in the order of their ids.
    RowLock(LockWait),
}

/// By the version, passing over what others have locked: so a batch never waits for a row lock.
pub(super) const BY_VERSION: ConcurrencyControl = ConcurrencyControl::Version { waits: false };

/// What is written whole or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Atomicity {
    /// Each event by itself: a command is a unit of its own.
    #[default]
    EachEvent,
    /// All commands of the attempt are one unit: if one is refused, none is written.
    Whole,
}

/// A command that waits to be executed, with its caller.
pub(super) trait Job: Send {
    /// The command.
    fn command(&self) -> &Command;
    /// When the caller asked for it.
    fn submitted(&self) -> Instant;
    /// When the caller stops listening.
    fn deadline(&self) -> Instant;
    /// Whether an earlier attempt may have been committed: what a later one says of itself says nothing of that.
    fn is_unsure(&self) -> bool {
        false
    }
    /// Notes that.
    fn make_unsure(&mut self) {}
}

/// What became of one command in an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is accepted, and written with the attempt.
    Accepted(Arc<Commit>),
    /// It was carried out before.
    Replayed(Box<Change>),
    /// The rules refuse it.
    Refused(Refusal),
    /// It has to be executed in another way, or again.
    Diverted(Diversion),
    /// Its deadline passed before its turn.
    Overdue,
}

/// Why a command is not done with its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diversion {
    /// Its event was not written.
    NotWritten(NotWritten),
    /// Its refusal rests on the clock, and has to be decided under the lock.
    Clock,
    /// It comes after a command of its event that was diverted, or that ended everything on it.
    Behind,
    /// Another command of its unit is refused.
    Unit,
}

/// What a command comes to: the change that answers it, and whether that is a replay.
pub(super) type Reply = Result<(Box<Change>, bool), OpError>;

impl Outcome {
    /// Whether a speculative command may have it: a refusal must come from a read.
    pub(super) const fn is_acceptance(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Replayed(_) | Self::Overdue)
    }

    /// The reply. None: it has none yet.
    pub(super) fn into_reply(self) -> Option<Reply> {
        Some(match self {
            Self::Accepted(commit) => {
                let change = match Arc::try_unwrap(commit) {
                    Ok(mut commit) => commit.changes.pop()?,
                    Err(commit) => commit.answer().clone(),
                };
                Ok((Box::new(change), false))
            }
            Self::Replayed(change) => Ok((change, true)),
            Self::Refused(refusal) => Err(refusal.into()),
            Self::Overdue => Err(OpError::Deadline),
            Self::Diverted(_) => return None,
        })
    }
}

/// An error of a command of which an earlier attempt may have been committed: that nothing was changed is not known.
pub(super) fn where_unsure(error: OpError, job: &impl Job) -> OpError {
    match error {
        OpError::Unavailable { cause, .. } if job.is_unsure() => OpError::Unavailable { outcome_unknown: true, cause },
        OpError::LockTimeout | OpError::Contention { .. } | OpError::Busy(_) if job.is_unsure() => {
            OpError::Unavailable { outcome_unknown: true, cause: None }
        }
        other => other,
    }
}
