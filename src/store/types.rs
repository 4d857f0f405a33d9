//! How the domain's values travel to PostgreSQL and back.

use std::{error::Error, time::Duration};

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef},
    types::time::OffsetDateTime,
};
use uuid::Uuid;

use crate::domain::{
    caller::Actor,
    change::ChangeKind,
    event::EventState,
    ids::{EventId, Fingerprint, RequestId, ReservationId, SeriesId, UserId, VenueId},
    reservation::State,
    time::Timestamp,
    waitlist::EntryState,
};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// 2000-01-01T00:00:00Z in microseconds since 1970: PostgreSQL counts from there.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        <OffsetDateTime as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxError> {
        <i64 as Encode<Postgres>>::encode(self.micros() - POSTGRES_EPOCH, buffer)
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a timestamp is read in binary format only".into());
        }
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        micros.checked_add(POSTGRES_EPOCH).and_then(Self::from_micros).ok_or_else(|| "timestamp out of range".into())
    }
}

/// Declares a domain value that travels as an integer of another type.
macro_rules! as_integer {
    ($(#[$doc:meta])* $name:ident($value:ty) as $integer:ty, $write:expr, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $value);

        impl Type<Postgres> for $name {
            fn type_info() -> PgTypeInfo {
                <$integer as Type<Postgres>>::type_info()
            }
        }

        impl Encode<'_, Postgres> for $name {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxError> {
                let write: fn($value) -> $integer = $write;
                <$integer as Encode<Postgres>>::encode(write(self.0), buffer)
            }
        }

        impl Decode<'_, Postgres> for $name {
            fn decode(value: PgValueRef<'_>) -> Result<Self, BoxError> {
                let integer = <$integer as Decode<Postgres>>::decode(value)?;
                let read: fn($integer) -> Option<$value> = $read;
                read(integer).map(Self).ok_or_else(|| format!("out of range: {integer}").into())
            }
        }
    };
}

as_integer!(
    /// A number of things: an `integer` in the database.
    Count(u32) as i32, u32::cast_signed, |count| count.try_into().ok()
);
as_integer!(
    /// A span of time: a `bigint` of microseconds in the database.
    Micros(Duration) as i64,
    |span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX),
    |micros| micros.try_into().ok().map(Duration::from_micros)
);

impl Type<Postgres> for ReservationId {
    fn type_info() -> PgTypeInfo {
        <Uuid as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for ReservationId {
    fn array_type_info() -> PgTypeInfo {
        <Uuid as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for ReservationId {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxError> {
        <Uuid as Encode<Postgres>>::encode(self.0, buffer)
    }
}

impl Decode<'_, Postgres> for ReservationId {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxError> {
        <Uuid as Decode<Postgres>>::decode(value).map(Self)
    }
}

impl Type<Postgres> for Fingerprint {
    fn type_info() -> PgTypeInfo {
        <[u8] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Fingerprint {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxError> {
        <&[u8] as Encode<Postgres>>::encode(self.0.as_slice(), buffer)
    }
}

impl Decode<'_, Postgres> for Fingerprint {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxError> {
        Ok(Self(value.as_bytes()?.try_into()?))
    }
}

/// A domain value that is `text` in the database: how it is written, and read back.
macro_rules! as_text {
    ($name:ty, $write:expr, $read:expr) => {
        impl Type<Postgres> for $name {
            fn type_info() -> PgTypeInfo {
                <str as Type<Postgres>>::type_info()
            }

            fn compatible(found: &PgTypeInfo) -> bool {
                <str as Type<Postgres>>::compatible(found)
            }
        }

        impl PgHasArrayType for $name {
            fn array_type_info() -> PgTypeInfo {
                <&str as PgHasArrayType>::array_type_info()
            }
        }

        impl Encode<'_, Postgres> for $name {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxError> {
                let write: fn(&$name) -> &str = $write;
                <&str as Encode<Postgres>>::encode(write(self), buffer)
            }
        }

        impl Decode<'_, Postgres> for $name {
            fn decode(value: PgValueRef<'_>) -> Result<Self, BoxError> {
                let text = value.as_str()?;
                let read: fn(&str) -> Option<$name> = $read;
                read(text).ok_or_else(|| format!("not a {}: {text:?}", stringify!($name)).into())
            }
        }
    };
}

as_text!(EventId, EventId::as_str, EventId::parse);
as_text!(SeriesId, SeriesId::as_str, SeriesId::parse);
as_text!(VenueId, VenueId::as_str, VenueId::parse);
as_text!(UserId, UserId::as_str, UserId::parse);
as_text!(RequestId, RequestId::as_str, RequestId::from_record);
as_text!(Actor, Actor::as_str, Actor::parse);
as_text!(State, |state| state.name(), |text| State::ALL.into_iter().find(|state| state.name() == text));
as_text!(EntryState, |state| state.name(), |text| EntryState::ALL.into_iter().find(|state| state.name() == text));
as_text!(ChangeKind, |kind| kind.name(), |text| ChangeKind::ALL.into_iter().find(|kind| kind.name() == text));
as_text!(EventState, |state| state.name(), |text| EventState::ALL.into_iter().find(|state| state.name() == text));
