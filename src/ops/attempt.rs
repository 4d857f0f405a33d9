//! What every executor does between getting exclusivity and giving it up: load, decide, write.

use sqlx::PgConnection;

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
        context, events, reservations,
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
    let Some(mut context) = context::load(conn, &[command]).await? else { return Ok(Err(Step::Stale)) };
    let now = context.now;
    let snapshot = context.snapshots.remove(&command.event_id);
    Ok(snapshot.map(|snapshot| Loaded { snapshot, now }).ok_or(Step::Refused(Refusal::EventNotFound)))
}

/// Decides, and writes what was decided. The transaction is the caller's to end: to commit after
/// [`Step::Done`], else to roll back.
pub(super) async fn decide_and_write(
    conn: &mut PgConnection,
    loaded: &Loaded,
    command: &Command,
) -> Result<Step, StoreError> {
    match decide(&loaded.snapshot, command, loaded.now) {
        Err(refusal) => Ok(Step::Refused(refusal)),
        Ok(Decision::Replay(change)) => Ok(Step::Done { change, replayed: true }),
        Ok(Decision::Commit(commit)) => write(conn, loaded, command, commit).await,
    }
}

/// Writes what was decided on `loaded`.
pub(super) async fn write(
    conn: &mut PgConnection,
    loaded: &Loaded,
    command: &Command,
    mut commit: Commit,
) -> Result<Step, StoreError> {
    let event = &loaded.snapshot.event;
    if let Action::CancelEvent { reason } = &command.action {
        let ended =
            reservations::end_all(conn, event, reason.as_deref(), command.caller.actor.as_ref(), loaded.now).await?;
        commit.follow_ended(ended.changes, ended.cancelled);
    }
    let decided = Decided { event_id: &event.id, seen: event.counters, commits: vec![&commit] };
    if !apply::apply(conn, &[decided]).await? {
        return Ok(Step::Stale);
    }
    // After the counters: a capacity may shrink to what lapsed holds have just made way for.
    if let Some(record) = commit.answer().event() {
        events::update(conn, &record.event).await?;
    }
    Ok(Step::Done { change: Box::new(commit.answer().clone()), replayed: false })
}
