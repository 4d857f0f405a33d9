//! One declaration for each table: its columns, how a row becomes a value of the domain, and how such a value is
//! written.
//!
//! The columns stand in the order of the type that the row is written as (`event_row` and so on, see
//! migrations/0001_tables.sql). `event_columns!()` and its like are the columns as a list for SQL.

use sqlx::{
    Encode, Postgres,
    encode::IsNull,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::PgRecordEncoder},
    types::Json,
};

use super::{
    columns::{Columns, Result, Table},
    types::{BoxError, Count, Micros},
};
use crate::domain::{
    booking_close::BookingClose,
    caller::Actor,
    change::{Change, ChangeKind, EventRecord, Subject},
    event::{Counters, Definition, Event, EventState, Limits},
    ids::{EventId, Fingerprint, Request, RequestId, ReservationId, SeriesId, UserId, VenueId},
    limits::Labels,
    reservation::{Reservation, State},
    time::Timestamp,
    waitlist::{Entry, EntryState, Policy},
};

/// A value as it is written.
pub struct Row<'a, T>(pub &'a T);

/// Values as they are written.
pub fn rows<'a, T>(values: impl IntoIterator<Item = &'a T>) -> Vec<Row<'a, T>> {
    values.into_iter().map(Row).collect()
}

/// Declares a table: the value, the type that it is written as, a name and an alias for the list of its columns; then
/// each column with the type that it is read as and the expression that is written; last, the value that is made of
/// what was read. With a name for the list of assignments that updates a row, the columns of the key come first, and a
/// semicolon after them.
macro_rules! table {
    ($value:ident as $row:literal, $list:ident of $alias:literal, $assignments:ident, |$it:ident| {
        $($key:ident: $key_type:ty = $write_key:expr),+;
        $first:ident: $first_type:ty = $write_first:expr,
        $($column:ident: $type:ty = $write:expr,)+
    } => $read:expr) => {
        #[doc = concat!("Assigns the columns of `", $row, "` but for its key from an alias `w`.")]
        macro_rules! $assignments {
            () => {
                concat!(
                    stringify!($first), " = w.", stringify!($first)
                    $(, ", ", stringify!($column), " = w.", stringify!($column))+
                )
            };
        }
        pub(super) use $assignments;

        table!($value as $row, $list of $alias, |$it| {
            $($key: $key_type = $write_key,)+
            $first: $first_type = $write_first,
            $($column: $type = $write,)+
        } => $read);
    };
    ($value:ident as $row:literal, $list:ident of $alias:literal, |$it:ident| {
        $first:ident: $first_type:ty = $write_first:expr,
        $($column:ident: $type:ty = $write:expr,)+
    } => $read:expr) => {
        #[doc = concat!("The columns of `", $row, "`, of a table or alias `", $alias, "`.")]
        macro_rules! $list {
            () => {
                concat!($alias, ".", stringify!($first) $(, ", ", $alias, ".", stringify!($column))+)
            };
        }
        pub(super) use $list;

        impl Table for $value {
            const WIDTH: usize = [stringify!($first) $(, stringify!($column))+].len();

            fn read(columns: &mut Columns<'_>) -> Result<Self> {
                let $first: $first_type = columns.get()?;
                $(let $column: $type = columns.get()?;)+
                Ok($read)
            }
        }

        impl sqlx::Type<Postgres> for Row<'_, $value> {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($row)
            }
        }

        impl PgHasArrayType for Row<'_, $value> {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::with_name(concat!("_", $row))
            }
        }

        impl Encode<'_, Postgres> for Row<'_, $value> {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxError> {
                let $it = self.0;
                let mut record = PgRecordEncoder::new(buffer);
                record.encode($write_first)?;
                $(record.encode($write)?;)+
                record.finish();
                Ok(IsNull::No)
            }
        }
    };
}

table!(Event as "event_row", event_columns of "e", event_assignments, |it| {
    event_id: EventId = &it.id;
    display_name: String = &it.definition.display_name,
    series_id: Option<SeriesId> = &it.definition.series_id,
    series_display_name: String = &it.definition.series_display_name,
    venue_id: Option<VenueId> = &it.definition.venue_id,
    venue_display_name: String = &it.definition.venue_display_name,
    start_time: Option<Timestamp> = it.definition.start_time,
    end_time: Option<Timestamp> = it.definition.end_time,
    booking_open_time: Option<Timestamp> = it.definition.booking_open_time,
    booking_close_time: Option<Timestamp> = it.definition.booking_close_time(),
    booking_close: Option<String> = it.definition.booking_close.relative().map(String::from),
    labels: Option<Json<Labels>> = null_if_default(&it.definition.labels),
    max_quantity: Count = Count(it.definition.limits.max_quantity),
    hold_ttl_default: Option<Micros> = it.definition.limits.hold_ttl_default.map(Micros),
    hold_ttl_max: Option<Micros> = it.definition.limits.hold_ttl_max.map(Micros),
    max_extensions: Count = Count(it.definition.limits.max_extensions),
    capacity: Count = Count(it.definition.capacity),
    waitlist_policy: Option<Json<Policy>> = null_if_default(&it.definition.waitlist),
    state: EventState = it.state,
    cancel_reason: Option<String> = &it.cancel_reason,
    held: Count = Count(it.counters.held),
    confirmed: Count = Count(it.counters.confirmed),
    version: i64 = it.counters.version,
    waiting: Count = Count(it.counters.waiting),
    definition_version: i64 = it.definition_version,
    create_time: Timestamp = it.create_time,
    update_time: Timestamp = it.update_time,
} => Event {
    id: event_id,
    definition: Definition {
        display_name,
        series_id,
        series_display_name,
        venue_id,
        venue_display_name,
        start_time,
        end_time,
        booking_open_time,
        booking_close: closing(booking_close, booking_close_time)?,
        labels: default_if_null(labels),
        limits: Limits {
            max_quantity: max_quantity.0,
            hold_ttl_default: hold_ttl_default.map(|span| span.0),
            hold_ttl_max: hold_ttl_max.map(|span| span.0),
            max_extensions: max_extensions.0,
        },
        capacity: capacity.0,
        waitlist: default_if_null(waitlist_policy),
    },
    state,
    cancel_reason,
    counters: Counters { held: held.0, confirmed: confirmed.0, version, waiting: waiting.0 },
    definition_version,
    create_time,
    update_time,
});

table!(Reservation as "reservation_row", reservation_columns of "r", reservation_assignments, |it| {
    event_id: EventId = &it.event_id,
    reservation_id: ReservationId = it.id;
    user_id: UserId = &it.user_id,
    quantity: Count = Count(it.quantity),
    state: State = it.state,
    expire_time: Option<Timestamp> = it.expire_time,
    confirm_time: Option<Timestamp> = it.confirm_time,
    extensions: Count = Count(it.extensions),
    cancel_reason: Option<String> = &it.cancel_reason,
    labels: Option<Json<Labels>> = null_if_default(&it.labels),
    version: i64 = it.version,
    create_time: Timestamp = it.create_time,
    update_time: Timestamp = it.update_time,
} => Reservation {
    event_id,
    id: reservation_id,
    user_id,
    quantity: quantity.0,
    state,
    expire_time,
    confirm_time,
    extensions: extensions.0,
    cancel_reason,
    labels: default_if_null(labels),
    version,
    create_time,
    update_time,
});

table!(Entry as "waitlist_row", entry_columns of "w", |it| {
    event_id: EventId = &it.event_id,
    entry_id: ReservationId = it.id,
    user_id: UserId = &it.user_id,
    quantity: Count = Count(it.quantity),
    min_quantity: Count = Count(it.min_quantity),
    state: EntryState = it.state,
    ticket: i64 = it.ticket,
    skips: Count = Count(it.skips),
    labels: Option<Json<Labels>> = null_if_default(&it.labels),
    version: i64 = it.version,
    create_time: Timestamp = it.create_time,
    update_time: Timestamp = it.update_time,
} => Entry {
    event_id,
    id: entry_id,
    user_id,
    quantity: quantity.0,
    min_quantity: min_quantity.0,
    state,
    ticket,
    skips: skips.0,
    labels: default_if_null(labels),
    version,
    create_time,
    update_time,
});

table!(Change as "change_row", change_columns of "c", |it| {
    event_id: EventId = it.event_id(),
    version: i64 = it.version,
    kind: ChangeKind = it.kind,
    change_time: Timestamp = it.time,
    request_id: Option<RequestId> = it.request.as_ref().map(|request| &request.id),
    fingerprint: Option<Fingerprint> = it.request.as_ref().map(|request| request.fingerprint),
    actor: Option<Actor> = it.actor.as_ref(),
    event: Option<Json<EventRecord>> = it.event().map(Json),
    entry: Option<Json<Entry>> = it.entry().map(Json),
    reservation_id: Option<ReservationId> = it.reservation().map(|it| it.id).or(it.entry().map(|it| it.id)),
    user_id: Option<UserId> = it.reservation().map(|it| &it.user_id).or(it.entry().map(|it| &it.user_id)),
    quantity: Option<Count> = it.reservation().map(|it| Count(it.quantity)),
    state: Option<State> = it.reservation().map(|it| it.state),
    expire_time: Option<Timestamp> = it.reservation().and_then(|it| it.expire_time),
    confirm_time: Option<Timestamp> = it.reservation().and_then(|it| it.confirm_time),
    extensions: Option<Count> = it.reservation().map(|it| Count(it.extensions)),
    cancel_reason: Option<String> = it.reservation().and_then(|it| it.cancel_reason.as_ref()),
    labels: Option<Json<Labels>> = it.reservation().and_then(|it| null_if_default(&it.labels)),
    create_time: Option<Timestamp> = it.reservation().map(|it| it.create_time),
    reason: Option<String> = &it.reason,
    after_promotions: Option<Json<Counters>> = it.after_promotions.map(Json),
} => {
    let subject = match (event, entry) {
        (Some(Json(record)), _) => Subject::Event(Box::new(record)),
        (None, Some(Json(entry))) => Subject::Entry(Box::new(entry)),
        (None, None) => Subject::Reservation(Box::new(Reservation {
            event_id,
            id: there(reservation_id, "reservation_id")?,
            user_id: there(user_id, "user_id")?,
            quantity: there(quantity, "quantity")?.0,
            state: there(state, "state")?,
            expire_time,
            confirm_time,
            extensions: there(extensions, "extensions")?.0,
            cancel_reason,
            labels: default_if_null(labels),
            version,
            create_time: there(create_time, "create_time")?,
            update_time: change_time,
        })),
    };
    let request = Option::zip(request_id, fingerprint).map(|(id, fingerprint)| Request { id, fingerprint });
    let after_promotions = after_promotions.map(|json| json.0);
    Change { version, kind, time: change_time, request, actor, reason, after_promotions, subject }
});

/// Most rows have none of these: nothing is stored for the default.
fn null_if_default<T: Default + PartialEq>(value: &T) -> Option<Json<&T>> {
    (*value != T::default()).then_some(Json(value))
}

fn default_if_null<T: Default>(value: Option<Json<T>>) -> T {
    value.map(|json| json.0).unwrap_or_default()
}

/// When booking closes: by the rule where there is one, or else at the time.
fn closing(rule: Option<String>, time: Option<Timestamp>) -> Result<BookingClose> {
    let Some(rule) = rule else { return Ok(time.map_or(BookingClose::Never, BookingClose::At)) };
    let rule = rule.parse().map(BookingClose::Relative);
    rule.map_err(|problem: &str| sqlx::Error::ColumnDecode { index: "booking_close".into(), source: problem.into() })
}

/// A column that every change of a reservation has.
fn there<T>(value: Option<T>, column: &'static str) -> Result<T> {
    value.ok_or_else(|| sqlx::Error::ColumnDecode { index: column.into(), source: "it is null".into() })
}
