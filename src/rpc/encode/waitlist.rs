//! Waitlist entries.

use super::value::timestamp;
use crate::{
    domain::waitlist::{Entry, EntryState},
    rpc::pb,
};

fn entry_state(state: EntryState) -> pb::WaitlistEntryState {
    match state {
        EntryState::Waiting => pb::WaitlistEntryState::Waiting,
        EntryState::Promoted => pb::WaitlistEntryState::Promoted,
        EntryState::Left => pb::WaitlistEntryState::Left,
        EntryState::Ended => pb::WaitlistEntryState::Ended,
    }
}

pub fn waitlist_entry(entry: &Entry) -> pb::WaitlistEntry {
    pb::WaitlistEntry {
        entry_id: entry.id.to_string(),
        event_id: entry.event_id.to_string(),
        user_id: entry.user_id.to_string(),
        quantity: entry.quantity.cast_signed(),
        min_quantity: entry.min_quantity.cast_signed(),
        state: entry_state(entry.state).into(),
        ticket: entry.ticket,
        skip_count: entry.skips.cast_signed(),
        labels: entry.labels.0.clone(),
        create_time: Some(timestamp(entry.create_time)),
        update_time: Some(timestamp(entry.update_time)),
        version: entry.version,
        etag: entry.etag(),
    }
}
