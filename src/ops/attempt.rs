//! What every executor does between getting exclusivity and giving it up: load, decide, serve those who
//! wait for what came free, write.

use sqlx::PgConnection;

use super::line;
use crate::{
    domain::{
        change::Change,
        command::{Action, Command},
        decide::{Commit, Decision, decide},
        refusal::Refusal,
        snapshot::Snapshot,
        time::Timestamp,
    },
    store::{
        StoreError,
        apply::{self, Decided},
        context::{self, Context},
        events, reservations, waitlist,
    },
};

/// How one attempt ended.
pub(super) enum Step {
    /// The change was made, or was made before.
    Done {
        /// The change that answers the command.
        change: Box<Change>,
        /// Whether it was made before, by the same request.
        replayed: bool,
    },
    /// The rules say no.
    Refused(Refusal),
    /// What was read is no longer so.
    Stale,
}

/// What a decision was made on.
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) now: Timestamp,
}

/// Loads what `command` is decided on, or says how the attempt ends without.
pub(super) async fn load(conn: &mut PgConnection, command: &Command) -> Result<Result<Loaded, Step>, StoreError> {
    let Some(context) = context::load(conn, &[command]).await? else { return Ok(Err(Step::Stale)) };
    Ok(Loaded::of(context, command).ok_or(Step::Refused(Refusal::EventNotFound)))
}

impl Loaded {
    /// What `context` says of the command's event. None: there is no such event.
    pub(super) fn of(mut context: Context, command: &Command) -> Option<Self> {
        let snapshot = context.snapshots.remove(&command.event_id)?;
        Some(Self { snapshot, now: context.now })
    }
}

/// What to write for one command.
pub(super) struct Plan {
    loaded: Loaded,
    /// What the command does.
    pub(super) commit: Commit,
    /// Who gets the places that it frees.
    promotions: Vec<Commit>,
}

/// Decides: what is to be written, or how the attempt ends without.
pub(super) async fn plan(
    conn: &mut PgConnection,
    loaded: Loaded,
    command: &Command,
) -> Result<Result<Plan, Step>, StoreError> {
    let commit = match decide(&loaded.snapshot, command, loaded.now) {
        Err(refusal) => return Ok(Err(Step::Refused(refusal))),
        Ok(Decision::Replay(change)) => return Ok(Err(Step::Done { change, replayed: true })),
        Ok(Decision::Commit(commit)) => commit,
    };
    let mut promotions = Vec::new();
    if commit.counters.waiting > 0 {
        let mut after = loaded.snapshot.clone();
        after.advance(&commit);
        promotions = line::serve(conn, &mut after, loaded.now).await?;
    }
    Ok(Ok(Plan { loaded, commit, promotions }))
}

/// Writes what was decided. The transaction is the caller's to end: to commit after [`Step::Done`],
/// else to roll back.
pub(super) async fn write(conn: &mut PgConnection, plan: Plan, command: &Command) -> Result<Step, StoreError> {
    let Plan { loaded: Loaded { snapshot, now }, mut commit, promotions } = plan;
    let event = snapshot.event;
    if let Action::CancelEvent { reason } = &command.action {
        let actor = command.caller.actor.as_ref();
        let ended = reservations::end_all(conn, &event, reason.as_deref(), actor, now).await?;
        let version = event.counters.version + i64::from(ended.changes);
        let entries =
            if event.counters.waiting > 0 { waitlist::end_all(conn, &event, version, actor, now).await? } else { 0 };
        commit.follow_ended(ended.changes, ended.cancelled, entries);
    }
    let commits: Vec<&Commit> = std::iter::once(&commit).chain(&promotions).collect();
    // A new capacity comes between the command and those it makes room for; and after the counters: it
    // may shrink to what lapsed holds have just made way for.
    let changed = commit.answer().event();
    let (first, rest) = commits.split_at(if changed.is_some() { 1 } else { commits.len() });
    let decided = |seen, commits: &[_]| [Decided { event_id: &event.id, seen, commits: commits.to_vec() }];
    if !apply::apply(conn, &decided(event.counters, first)).await? {
        return Ok(Step::Stale);
    }
    if let Some(record) = changed {
        events::update(conn, &record.event).await?;
    }
    if !rest.is_empty() && !apply::apply(conn, &decided(commit.counters, rest)).await? {
        return Ok(Step::Stale);
    }
    Ok(Step::Done { change: Box::new(commit.answer().clone()), replayed: false })
}
