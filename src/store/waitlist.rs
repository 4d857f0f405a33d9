//! Statements on the waitlist.

use std::{collections::HashMap, time::Duration};

use sqlx::{PgConnection, Postgres, QueryBuilder, types::Json};

use super::{
    StoreError,
    apply::{Decided, composite},
    columns::{Columns, is_unserved},
    events::labels_or_null,
    page::{self, Page},
};
use crate::{
    domain::{
        caller::Actor,
        change::{Change, ChangeKind},
        command::Target,
        event::Event,
        ids::{EventId, Fingerprint, RequestId, ReservationId, UserId},
        limits::{self, Labels},
        time::Timestamp,
        waitlist::{Entry, EntryState},
    },
    entry_columns,
};

/// Reads the entries that these targets mean: of a user the one that waits, or else the newest.
pub async fn of_targets(conn: &mut PgConnection, targets: &[(&EventId, Target)]) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::of_targets\nSELECT ",
        entry_columns!(),
        " FROM unnest($1::text[], $2::uuid[], $3::text[]) AS q (event_id, entry_id, user_id)
          CROSS JOIN LATERAL (
              SELECT * FROM waitlist l WHERE l.event_id = q.event_id AND l.entry_id = q.entry_id
              UNION ALL
              (SELECT * FROM waitlist l WHERE l.event_id = q.event_id AND l.user_id = q.user_id
                ORDER BY l.state = 'WAITING' DESC, l.ticket DESC LIMIT 1)) w"
    );
    let event_ids: Vec<_> = targets.iter().map(|(event_id, _)| *event_id).collect();
    let entry_ids: Vec<_> = targets.iter().map(|(_, t)| if let Target::Id(id) = t { Some(id) } else { None }).collect();
    let user_ids: Vec<_> =
        targets.iter().map(|(_, t)| if let Target::User(id) = t { Some(id) } else { None }).collect();
    let rows = sqlx::query(SQL).bind(event_ids).bind(entry_ids).bind(user_ids).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| Columns::of(row).entry()).collect::<Result<_, _>>()?)
}

/// Reads the entries that wait for more units than `capacity`.
pub async fn larger_than(conn: &mut PgConnection, id: &EventId, capacity: u32) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::larger_than\nSELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE w.event_id = $1 AND w.state = 'WAITING' AND w.min_quantity > $2"
    );
    let rows = sqlx::query(SQL).bind(id).bind(capacity.cast_signed()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| Columns::of(row).entry()).collect::<Result<_, _>>()?)
}

/// Reads as much of an event's line as tells who gets up to `units` units: so many from its head,
/// since everybody gets at least one, and the head after them; where parties too large may be passed
/// over, also of each size as many as there are units for. Some may come twice.
pub async fn line(conn: &mut PgConnection, id: &EventId, units: u32, may_skip: bool) -> Result<Vec<Entry>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::line\n(SELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE w.event_id = $1 AND w.state = 'WAITING' ORDER BY w.ticket LIMIT $2 + 1)
          UNION ALL
          SELECT ",
        entry_columns!(),
        " FROM generate_series(1, $3) AS of (size)
          CROSS JOIN LATERAL (
              SELECT * FROM waitlist l
               WHERE l.event_id = $1 AND l.state = 'WAITING' AND l.min_quantity = of.size
               ORDER BY l.ticket LIMIT $2 / of.size) w"
    );
    let sizes = if may_skip { units.min(*limits::QUANTITY.end()) } else { 0 };
    let rows = sqlx::query(SQL).bind(id).bind(i64::from(units)).bind(sizes.cast_signed()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| Columns::of(row).entry()).collect::<Result<_, _>>()?)
}

/// Finds events where somebody waits whom free places fit and whose turn it is, without a lock.
pub async fn unserved(conn: &mut PgConnection, limit: u32) -> Result<Vec<EventId>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::unserved\nSELECT e.event_id FROM events e WHERE e.waiting > 0 AND ",
        is_unserved!(),
        " LIMIT $1"
    );
    Ok(sqlx::query_scalar(SQL).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// Ends every entry that waits for an event in one statement, with a change each by `actor`, at the
/// versions after `version`; and returns how many. The caller holds the event's lock.
pub async fn end_all(
    conn: &mut PgConnection,
    event: &Event,
    version: i64,
    actor: Option<&Actor>,
    now: Timestamp,
) -> Result<u32, StoreError> {
    const SQL: &str = "-- waitlist::end_all
        WITH line AS (
            SELECT entry_id, $2 + row_number() OVER (ORDER BY ticket) AS version
              FROM waitlist WHERE event_id = $1 AND state = 'WAITING'
        ), ended AS (
            UPDATE waitlist w SET state = 'ENDED', version = line.version, update_time = $3
              FROM line WHERE w.event_id = $1 AND w.entry_id = line.entry_id AND w.state = 'WAITING'
            RETURNING w.*
        ), written AS (
            INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, actor, entry)
            SELECT event_id, version, 'WAITLIST_ENDED', $3, entry_id, user_id, $4,
                   jsonb_build_object(
                       'id', entry_id, 'event_id', event_id, 'user_id', user_id, 'quantity', quantity,
                       'min_quantity', min_quantity, 'state', state, 'ticket', ticket, 'skips', skips,
                       'labels', COALESCE(labels, '{}'), 'version', version,
                       'create_time', (EXTRACT(epoch FROM create_time) * 1000000)::bigint,
                       'update_time', (EXTRACT(epoch FROM update_time) * 1000000)::bigint)
              FROM ended
        )
        SELECT count(*)::integer FROM ended";
    let row = sqlx::query(SQL).bind(&event.id).bind(version).bind(now).bind(actor).fetch_one(conn).await?;
    Ok(Columns::of(&row).count()?)
}

/// Who is ahead of an entry in its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many entries.
    pub parties: u32,
    /// How many units they want.
    pub units: u64,
}

/// Reads one entry, and who is ahead of it while it waits.
pub async fn get(
    conn: &mut PgConnection,
    event_id: &EventId,
    target: &Target,
) -> Result<Option<(Entry, Ahead)>, StoreError> {
    const SQL: &str = concat!(
        "-- waitlist::get\nSELECT ",
        entry_columns!(),
        ", ahead.parties, ahead.units
          FROM (SELECT * FROM waitlist l
                 WHERE l.event_id = $1 AND (l.entry_id = $2 OR l.user_id = $3)
                 ORDER BY l.state = 'WAITING' DESC, l.ticket DESC LIMIT 1) w
          CROSS JOIN LATERAL (
              SELECT count(*)::integer AS parties, COALESCE(sum(quantity), 0)::bigint AS units FROM waitlist l
               WHERE w.state = 'WAITING'
                 AND l.event_id = $1 AND l.state = 'WAITING' AND l.ticket < w.ticket) ahead"
    );
    let (entry_id, user_id) = match target {
        Target::Id(id) => (Some(id), None),
        Target::User(user) => (None, Some(user)),
    };
    let row = sqlx::query(SQL).bind(event_id).bind(entry_id).bind(user_id).fetch_optional(conn).await?;
    let read = |row| {
        let mut columns = Columns::of(&row);
        let (entry, parties, units) = (columns.entry()?, columns.count()?, columns.get::<i64>()?);
        Ok::<_, sqlx::Error>((entry, Ahead { parties, units: units.unsigned_abs() }))
    };
    Ok(row.map(read).transpose()?)
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of this user.
    pub user_id: Option<UserId>,
    /// In one of these states; all if empty.
    pub states: Vec<EntryState>,
}

/// Where a page begins: after this event and ticket.
pub type Cursor = (EventId, i64);

/// Lists entries by event, then in the order in which they joined.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    size: u32,
) -> Result<Page<Entry>, StoreError> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!(
        "-- waitlist::list\nSELECT ",
        entry_columns!(),
        " FROM waitlist w WHERE true"
    ));
    if let Some(event_id) = &filter.event_id {
        sql.push(" AND w.event_id = ").push_bind(event_id);
    }
    if let Some(user_id) = &filter.user_id {
        sql.push(" AND w.user_id = ").push_bind(user_id);
    }
    match filter.states.as_slice() {
        [] => {}
        // As the partial index says it.
        [EntryState::Waiting] => _ = sql.push(" AND w.state = 'WAITING'"),
        states => _ = sql.push(" AND w.state = ANY(").push_bind(states.to_vec()).push(")"),
    }
    if let Some((event_id, ticket)) = after {
        sql.push(" AND (w.event_id, w.ticket) > (").push_bind(event_id).push(", ").push_bind(ticket).push(")");
    }
    sql.push(" ORDER BY w.event_id, w.ticket LIMIT ").push_bind(i64::from(size) + 1);
    page::read(sql.build().fetch(conn), size, |row| Columns::of(row).entry()).await
}

/// How many of an event's entries were promoted.
pub async fn promoted(conn: &mut PgConnection, id: &EventId) -> Result<i64, StoreError> {
    const SQL: &str = "-- waitlist::promoted\nSELECT count(*) FROM waitlist WHERE event_id = $1 AND state = 'PROMOTED'";
    Ok(sqlx::query_scalar(SQL).bind(id).fetch_one(conn).await?)
}

/// How many entries wait, over all events.
pub async fn waiting(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- waitlist::waiting\nSELECT COALESCE(sum(waiting), 0) FROM events WHERE waiting > 0";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Deletes up to `limit` entries that ended longer ago than `age`, and returns how many.
pub async fn forget(conn: &mut PgConnection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "-- waitlist::forget
        WITH old AS MATERIALIZED (
            SELECT event_id, entry_id FROM waitlist
             WHERE state <> 'WAITING' AND update_time < now() - make_interval(secs => $1)
             ORDER BY update_time LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM waitlist w USING old WHERE w.event_id = old.event_id AND w.entry_id = old.entry_id";
    let done = sqlx::query(SQL).bind(age.as_secs_f64()).bind(i64::from(limit)).execute(conn).await?;
    Ok(done.rows_affected())
}

#[derive(sqlx::Encode)]
pub(super) struct CountWrite<'a> {
    event_id: &'a EventId,
    waiting: i32,
}
composite!(CountWrite, "waitlist_count_1");

#[derive(sqlx::Encode)]
pub(super) struct EntryWrite<'a> {
    event_id: &'a EventId,
    entry_id: ReservationId,
    is_new: bool,
    user_id: &'a UserId,
    quantity: i32,
    min_quantity: i32,
    state: EntryState,
    ticket: i64,
    skips: i32,
    labels: Option<Json<&'a Labels>>,
    version: i64,
    create_time: Timestamp,
    update_time: Timestamp,
}
composite!(EntryWrite, "waitlist_write_1");

#[derive(sqlx::Encode)]
pub(super) struct ChangeWrite<'a> {
    event_id: &'a EventId,
    version: i64,
    kind: ChangeKind,
    change_time: Timestamp,
    request_id: Option<&'a RequestId>,
    fingerprint: Option<Fingerprint>,
    reservation_id: ReservationId,
    user_id: &'a UserId,
    entry: Json<&'a Entry>,
    actor: Option<&'a Actor>,
}
composite!(ChangeWrite, "waitlist_change_1");

/// What decisions did to lines.
pub(super) struct LineWrites<'a> {
    pub(super) counts: Vec<CountWrite<'a>>,
    /// Each entry once, as the last commit leaves it.
    pub(super) entries: Vec<EntryWrite<'a>>,
    pub(super) changes: Vec<ChangeWrite<'a>>,
}

impl<'a> LineWrites<'a> {
    /// None: they did nothing to any.
    pub(super) fn of(decided: &[Decided<'a>]) -> Option<Self> {
        let touched: Vec<_> = decided.iter().filter(|decided| touches_the_line(decided)).collect();
        if touched.is_empty() {
            return None;
        }
        let commits = touched.iter().flat_map(|decided| decided.commits.iter().copied());
        Some(Self {
            counts: touched.iter().filter_map(|decided| count_write(decided)).collect(),
            entries: touched.iter().flat_map(|decided| final_entries(decided)).collect(),
            changes: commits.flat_map(|commit| &commit.changes).filter_map(change_write).collect(),
        })
    }

    /// Writes them. To be called after the events' versions were checked, in the same transaction.
    pub(super) async fn write(self, conn: &mut PgConnection) -> Result<(), StoreError> {
        const SQL: &str = "-- waitlist::write\nSELECT apply_waitlist_1($1, $2, $3)";
        sqlx::query(SQL).bind(self.counts).bind(self.entries).bind(self.changes).execute(conn).await?;
        Ok(())
    }
}

fn touches_the_line(decided: &Decided<'_>) -> bool {
    let waiting = decided.commits.last().map(|commit| commit.counters.waiting);
    waiting != Some(decided.seen.waiting) || decided.commits.iter().any(|commit| !commit.entries.is_empty())
}

fn count_write<'a>(decided: &Decided<'a>) -> Option<CountWrite<'a>> {
    let waiting = decided.commits.last()?.counters.waiting.cast_signed();
    Some(CountWrite { event_id: decided.event_id, waiting })
}

fn final_entries<'a>(decided: &Decided<'a>) -> Vec<EntryWrite<'a>> {
    let mut rows: Vec<EntryWrite<'a>> = Vec::new();
    let mut places: HashMap<ReservationId, usize> = HashMap::new();
    for entry in decided.commits.iter().flat_map(|commit| &commit.entries) {
        let place = *places.entry(entry.id).or_insert(rows.len());
        let row = entry_write(entry, entry.ticket > decided.seen.version);
        if place < rows.len() { rows[place] = row } else { rows.push(row) }
    }
    rows
}

fn entry_write(entry: &Entry, is_new: bool) -> EntryWrite<'_> {
    EntryWrite {
        event_id: &entry.event_id,
        entry_id: entry.id,
        is_new,
        user_id: &entry.user_id,
        quantity: entry.quantity.cast_signed(),
        min_quantity: entry.min_quantity.cast_signed(),
        state: entry.state,
        ticket: entry.ticket,
        skips: entry.skips.cast_signed(),
        labels: labels_or_null(&entry.labels),
        version: entry.version,
        create_time: entry.create_time,
        update_time: entry.update_time,
    }
}

fn change_write(change: &Change) -> Option<ChangeWrite<'_>> {
    let entry = change.entry()?;
    Some(ChangeWrite {
        event_id: &entry.event_id,
        version: change.version,
        kind: change.kind,
        change_time: change.time,
        request_id: change.request.as_ref().map(|request| &request.id),
        fingerprint: change.request.as_ref().map(|request| request.fingerprint),
        reservation_id: entry.id,
        user_id: &entry.user_id,
        entry: Json(entry),
        actor: change.actor.as_ref(),
    })
}
