//! Changes, and what a mutation answers with.

use super::{event::event, reservation::reservation, value::timestamp, waitlist::waitlist_entry};
use crate::{
    domain::{
        caller::Actor,
        change::{Change, ChangeKind, Subject},
    },
    rpc::pb,
};

fn change_kind(kind: ChangeKind) -> pb::ChangeKind {
    match kind {
        ChangeKind::EventCreated => pb::ChangeKind::EventCreated,
        ChangeKind::EventUpdated => pb::ChangeKind::EventUpdated,
        ChangeKind::EventOpened => pb::ChangeKind::EventOpened,
        ChangeKind::EventClosed => pb::ChangeKind::EventClosed,
        ChangeKind::EventCancelled => pb::ChangeKind::EventCancelled,
        ChangeKind::EventDeleted => pb::ChangeKind::EventDeleted,
        ChangeKind::ReservationHeld => pb::ChangeKind::ReservationHeld,
        ChangeKind::ReservationConfirmed => pb::ChangeKind::ReservationConfirmed,
        ChangeKind::ReservationExtended => pb::ChangeKind::ReservationExtended,
        ChangeKind::ReservationAmended => pb::ChangeKind::ReservationAmended,
        ChangeKind::ReservationReduced => pb::ChangeKind::ReservationReduced,
        ChangeKind::ReservationCancelled => pb::ChangeKind::ReservationCancelled,
        ChangeKind::ReservationExpired => pb::ChangeKind::ReservationExpired,
        ChangeKind::WaitlistJoined => pb::ChangeKind::WaitlistJoined,
        ChangeKind::WaitlistPromoted => pb::ChangeKind::WaitlistPromoted,
        ChangeKind::WaitlistAmended => pb::ChangeKind::WaitlistAmended,
        ChangeKind::WaitlistLeft => pb::ChangeKind::WaitlistLeft,
        ChangeKind::WaitlistEnded => pb::ChangeKind::WaitlistEnded,
    }
}

/// A change, as listings, watches and the broker publish it.
pub fn change(change: &Change) -> pb::Change {
    pb::Change {
        event_id: change.event_id().to_string(),
        version: change.version,
        kind: change_kind(change.kind).into(),
        change_time: Some(timestamp(change.time)),
        request_id: change.request.as_ref().map(|request| request.id.said().to_owned()).unwrap_or_default(),
        actor: change.actor.as_ref().map(Actor::to_string).unwrap_or_default(),
        reason: change.reason.clone().unwrap_or_default(),
        subject: Some(match &change.subject {
            Subject::Reservation(it) => pb::change::Subject::Reservation(reservation(it)),
            Subject::Event(record) => pb::change::Subject::Event(event(&record.event, None)),
            Subject::Entry(entry) => pb::change::Subject::Entry(waitlist_entry(entry)),
        }),
    }
}

/// The reservation that a mutation of a reservation answers with.
pub fn changed_reservation(change: &Change) -> Option<pb::Reservation> {
    change.reservation().map(reservation)
}

/// The entry that a mutation of the waitlist answers with.
pub fn changed_entry(change: &Change) -> Option<pb::WaitlistEntry> {
    change.entry().map(waitlist_entry)
}

/// The event that a mutation of an event answers with: as it stands after the promotions that it caused.
pub fn changed_event(change: &Change) -> Option<pb::Event> {
    let mut after = change.event()?.event.clone();
    after.counters = change.after_promotions.unwrap_or(after.counters);
    Some(event(&after, None))
}
