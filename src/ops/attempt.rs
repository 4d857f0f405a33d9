//! What every executor does between getting exclusivity and giving it up: load, decide, write.

use sqlx::PgConnection;

use crate::{
    domain::{
        change::Change,
        command::{Action, Command},
        decide::{Commit, Decision, decide},
        event::Event,
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

/// Loads what `command` needs besides its event. None: the event has changed since it was read, which
/// can't happen under its lock.
pub(super) async fn load(
    conn: &mut PgConnection,
    event: Event,
    command: &Command,
) -> Result<Option<Loaded>, StoreError> {
    // Holds before context: the version that comes with the context then vouches for both.
    let short = command.needs(&event).saturating_sub(event.available());
    let holds = match short {
        0 => Vec::new(),
        // A hold has at least one unit; one more hold tells when the next units may come free.
        units => context::earliest_holds(conn, &[(event.id.clone(), units.saturating_add(1))]).await?,
    };
    let Some((_, context)) = context::load(conn, &[command]).await?.pop() else { return Ok(None) };
    if context.event_version != event.counters.version {
        return Ok(None);
    }
    let mut snapshot = Snapshot::new(event);
    holds.into_iter().for_each(|hold| snapshot.add_hold(hold, context.now));
    context.target.into_iter().for_each(|reservation| snapshot.add_reservation(reservation));
    context.record.into_iter().for_each(|change| snapshot.add_record(change));
    Ok(Some(Loaded { snapshot, now: context.now }))
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
        let ended = reservations::end_all(conn, event, reason.as_deref(), loaded.now).await?;
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
