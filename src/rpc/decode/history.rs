//! The messages of FeedService.

use std::{collections::HashMap, ops::RangeInclusive};

use tonic::Status;

use crate::{
    domain::{change::ChangeKind, ids::EventId},
    rpc::{fields::Fields, pb},
    store::changes::Filter,
};

/// Events of one watch.
const WATCHED: RangeInclusive<usize> = 1..=256;
/// More kinds than there are mean nothing new.
const MAX_KINDS: usize = 32;

/// The filter of a listing, and the size of its pages.
pub fn list_changes(message: &pb::ListChangesRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let event_id = fields.event_id("event_id", &message.event_id);
    let reservation_id = match message.reservation_id.as_str() {
        "" => None,
        text => fields.reservation_id("reservation_id", text),
    };
    let user_id = match message.user_id.as_str() {
        "" => None,
        text => fields.user_id("user_id", text),
    };
    let kinds = kinds(&mut fields, &message.kinds);
    let from = fields.bound("change_time_from", message.change_time_from).flatten();
    let before = fields.bound("change_time_before", message.change_time_before).flatten();
    let size = fields.page_size(message.page_size);
    let newest_first = message.newest_first;
    let filter =
        event_id.map(|event_id| Filter { event_id, reservation_id, user_id, kinds, from, before, newest_first });
    fields.finish(filter.zip(size))
}

/// The events to watch, each with the version that the caller knows.
pub fn watch_changes(message: &pb::WatchChangesRequest) -> Result<Vec<(EventId, Option<i64>)>, Status> {
    let mut fields = Fields::default();
    if !WATCHED.contains(&message.events.len()) {
        fields.reject("events", format!("must have {} to {} items", WATCHED.start(), WATCHED.end()));
    }
    let mut places: HashMap<EventId, usize> = HashMap::new();
    let mut wanted = Vec::new();
    for (place, watched) in message.events.iter().enumerate().take(*WATCHED.end()) {
        fields.within(format!("events[{place}]."));
        if watched.after_version.is_some_and(|version| version < 0) {
            fields.reject("after_version", "must not be negative");
        }
        let Some(event_id) = fields.event_id("event_id", &watched.event_id) else { continue };
        if let Some(first) = places.insert(event_id.clone(), place) {
            fields.reject("event_id", format!("is that of events[{first}] too"));
        }
        wanted.push((event_id, watched.after_version));
    }
    fields.finish(Some(wanted))
}

fn kinds(fields: &mut Fields, values: &[i32]) -> Vec<ChangeKind> {
    let mut kinds = Vec::new();
    for (place, value) in values.iter().enumerate().take(MAX_KINDS) {
        kinds.extend(fields.known::<pb::ChangeKind>(&format!("kinds[{place}]"), *value).and_then(change_kind));
    }
    if values.len() > MAX_KINDS {
        fields.reject("kinds", format!("must have at most {MAX_KINDS} items"));
    }
    kinds
}

/// The kind in the domain, found by the name that both have for it.
fn change_kind(kind: pb::ChangeKind) -> Option<ChangeKind> {
    let name = kind.as_str_name().trim_start_matches("CHANGE_KIND_");
    ChangeKind::ALL.into_iter().find(|known| known.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_api_is_one_of_the_domain() {
        let kinds: Vec<_> = (1..).map_while(|number| pb::ChangeKind::try_from(number).ok()).collect();
        assert_eq!(kinds.len(), ChangeKind::ALL.len());
        assert!(kinds.into_iter().all(|kind| change_kind(kind).is_some()));
    }
}
