//! The messages of EventService.

use std::{
    collections::{BTreeMap, HashSet},
    mem::take,
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{
    booking_close::booking_close,
    frame::{Decoded, exec_options, fingerprint, frame, request},
    target::states,
    waitlist,
};
use crate::{
    config::{Strategy, StrategyDefaults},
    domain::{
        booking_close::BookingClose,
        command::{Action, EventField, EventUpdate},
        event::{Definition, EventState, Limits},
        ids::{EventId, RequestId, SeriesId, VenueId},
        limits,
    },
    ops::create_events::NewEvent,
    rpc::{
        fields::{Fields, quoted},
        page_token, pb,
    },
    store::events::{Cursor, Filter},
};

pub fn update_event(
    mut m: pb::UpdateEventRequest,
    defaults: StrategyDefaults,
    deadline: Instant,
) -> Result<Decoded, Status> {
    let mut fields = Fields::default();
    let frame = frame!(m, fields, "UpdateEvent", defaults.events, deadline, etag);
    let event = m.event.take().unwrap_or_default();
    let event_id = fields.event_id("event.event_id", &event.event_id);
    let update = event_update(&mut fields, event, m.update_mask);
    frame.decoded(fields, event_id, update.map(|update| Action::UpdateEvent(update.into())))
}

/// The event to be created, and whether only to check. Its booking closes by `default` if it does not say.
pub fn create_event(mut m: pb::CreateEventRequest, default: BookingClose) -> Result<(NewEvent, bool), Status> {
    let mut fields = Fields::default();
    let validate_only = take(&mut m.validate_only);
    check_options(&mut fields, m.options.take());
    let new = new_event(&mut fields, m, default);
    fields.finish(new.map(|new| (new, validate_only)))
}

/// The events to be created, and whether only to check. Booking closes by `default` where an event does not say.
pub fn batch_create_events(
    m: pb::BatchCreateEventsRequest,
    default: BookingClose,
) -> Result<(Vec<NewEvent>, bool), Status> {
    let mut fields = Fields::default();
    check_options(&mut fields, m.options);
    let size = fields.batch("requests", m.requests.len());
    let mut places: BTreeMap<EventId, usize> = BTreeMap::new();
    let mut news = Vec::with_capacity(m.requests.len());
    // The items of a batch of the wrong size are not checked: there may be any number of them.
    for (place, request) in m.requests.into_iter().enumerate().take(if size.is_some() { usize::MAX } else { 0 }) {
        fields.within(format!("requests[{place}]."));
        for (field, is_set) in [("validate_only", request.validate_only), ("options", request.options.is_some())] {
            if is_set {
                fields.reject(field, "must be unset: set that of the batch");
            }
        }
        let Some(new) = new_event(&mut fields, request, default) else { continue };
        if let Some(first) = places.insert(new.id.clone(), place) {
            fields.reject("event.event_id", format!("is that of requests[{first}] too"));
        }
        news.push(new);
    }
    fields.finish(Some((news, m.validate_only)))
}

/// Rejects bad options of a creation, which does the same whatever they are.
fn check_options(fields: &mut Fields, options: Option<pb::ExecutionOptions>) {
    exec_options(fields, options.unwrap_or_default(), false, Strategy::Pessimistic, Instant::now());
}

fn new_event(fields: &mut Fields, mut m: pb::CreateEventRequest, default: BookingClose) -> Option<NewEvent> {
    let request_text = take(&mut m.request_id);
    let print = fingerprint("CreateEvent", &m);
    let request_id = fields.request_id("request_id", &request_text);
    let Some(event) = m.event else {
        fields.reject("event", "must be set");
        return None;
    };
    let id = match event.event_id.as_str() {
        "" => generated_event_id(request_id.as_ref().and_then(Option::as_ref)),
        id => fields.event_id("event.event_id", id),
    };
    let definition = definition(fields, event, default);
    if let Some(definition) = &definition {
        reject_contradictions(fields, definition);
    }
    let state = if m.start_closed { EventState::Closed } else { EventState::Open };
    Some(NewEvent { id: id?, definition: definition?, state, request: request(request_id?, print), actor: None })
}

/// Rejects fields that contradict each other.
fn reject_contradictions(fields: &mut Fields, definition: &Definition) {
    let contradictions = definition.contradictions();
    contradictions.into_iter().for_each(|(field, rule)| fields.reject(&format!("event.{field}"), rule));
}

/// An id for an event whose client chose none. With a request_id the id follows from that, so that a repetition on any
/// server finds the event that the first call created.
fn generated_event_id(request_id: Option<&RequestId>) -> Option<EventId> {
    let id = match request_id {
        Some(request_id) => {
            let digest = Sha256::new().chain_update("reservd event id\0").chain_update(request_id.as_str()).finalize();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            Uuid::new_v8(bytes)
        }
        None => Uuid::now_v7(),
    };
    EventId::parse(&id.to_string())
}

/// What an event says, or a part of it. Booking closes by `default` where that is not said.
fn definition(fields: &mut Fields, event: pb::Event, default: BookingClose) -> Option<Definition> {
    let display_name = fields.text("event.display_name", event.display_name, limits::DISPLAY_NAME);
    let series_id = fields.optional_id("event.series_id", &event.series_id, SeriesId::parse);
    let series_name = fields.text("event.series_display_name", event.series_display_name, limits::DISPLAY_NAME);
    let venue_id = fields.optional_id("event.venue_id", &event.venue_id, VenueId::parse);
    let venue_name = fields.text("event.venue_display_name", event.venue_display_name, limits::DISPLAY_NAME);
    let start_time = fields.time("event.start_time", event.start_time);
    let end_time = fields.time("event.end_time", event.end_time);
    let booking_open_time = fields.time("event.booking_open_time", event.booking_open_time);
    let booking_close = booking_close(fields, event.booking_close_time, event.booking_close, default);
    let capacity = fields.number("event.capacity", event.capacity, &limits::CAPACITY);
    let limits = event_limits(fields, event.limits.unwrap_or_default());
    let labels = fields.labels("event.labels", event.labels);
    let waitlist = waitlist::policy(fields, event.waitlist);
    Some(Definition {
        display_name: display_name?,
        series_id: series_id?,
        series_display_name: series_name?,
        venue_id: venue_id?,
        venue_display_name: venue_name?,
        start_time: start_time?,
        end_time: end_time?,
        booking_open_time: booking_open_time?,
        booking_close: booking_close?,
        labels: labels?,
        limits: limits?,
        capacity: capacity?,
        waitlist: waitlist?,
    })
}

fn event_limits(fields: &mut Fields, m: pb::EventLimits) -> Option<Limits> {
    let default = Limits::default();
    let max_quantity = match m.max_quantity {
        None => Some(default.max_quantity),
        Some(value) => fields.number("event.limits.max_quantity", value, &limits::QUANTITY),
    };
    let max_extensions = match m.max_extensions {
        None => Some(default.max_extensions),
        Some(value) => fields.number("event.limits.max_extensions", value, &limits::EXTENSIONS),
    };
    let hold_ttl_default = fields.hold_ttl("event.limits.hold_ttl_default", m.hold_ttl_default);
    let hold_ttl_max = fields.hold_ttl("event.limits.hold_ttl_max", m.hold_ttl_max);
    Some(Limits {
        max_quantity: max_quantity?,
        hold_ttl_default: hold_ttl_default?,
        hold_ttl_max: hold_ttl_max?,
        max_extensions: max_extensions?,
    })
}

const LIMITS: [EventField; 4] =
    [EventField::MaxQuantity, EventField::HoldTtlDefault, EventField::HoldTtlMax, EventField::MaxExtensions];

/// The fields that a path of an update mask means.
fn masked(path: &str) -> Option<Vec<EventField>> {
    Some(match path {
        "display_name" => vec![EventField::DisplayName],
        "series_id" => vec![EventField::SeriesId],
        "series_display_name" => vec![EventField::SeriesDisplayName],
        "venue_id" => vec![EventField::VenueId],
        "venue_display_name" => vec![EventField::VenueDisplayName],
        "start_time" => vec![EventField::StartTime],
        "end_time" => vec![EventField::EndTime],
        "booking_open_time" => vec![EventField::BookingOpenTime],
        "booking_close_time" => vec![EventField::BookingCloseTime],
        "booking_close" => vec![EventField::BookingClose],
        "labels" => vec![EventField::Labels],
        "capacity" => vec![EventField::Capacity],
        "limits" => LIMITS.to_vec(),
        "limits.max_quantity" => vec![EventField::MaxQuantity],
        "limits.hold_ttl_default" => vec![EventField::HoldTtlDefault],
        "limits.hold_ttl_max" => vec![EventField::HoldTtlMax],
        "limits.max_extensions" => vec![EventField::MaxExtensions],
        "waitlist" => vec![EventField::Waitlist],
        _ => return None,
    })
}

const ALL_PATHS: [&str; 14] = [
    "display_name",
    "series_id",
    "series_display_name",
    "venue_id",
    "venue_display_name",
    "start_time",
    "end_time",
    "booking_open_time",
    "booking_close_time",
    "booking_close",
    "labels",
    "capacity",
    "limits",
    "waitlist",
];

fn event_update(fields: &mut Fields, event: pb::Event, mask: Option<prost_types::FieldMask>) -> Option<EventUpdate> {
    let paths = match mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths,
        _ => populated(&event).map(str::to_owned).collect(),
    };
    let mut chosen = Vec::new();
    for path in &paths {
        match masked(path) {
            Some(found) => chosen.extend(found),
            None if path == "*" => chosen.extend(ALL_PATHS.iter().copied().filter_map(masked).flatten()),
            None => fields.reject("update_mask", format!("{} is not a field that can be changed", quoted(path))),
        }
    }
    if paths.is_empty() {
        fields.reject("update_mask", "or at least one field of event must be set");
    }
    // Fields outside the mask are not checked: a client may send back a whole event.
    let values = definition(fields, pruned(event, &chosen), BookingClose::Never)?;
    // Only against each other: what they say against the fields that stay depends on the event.
    reject_contradictions(fields, &values);
    Some(EventUpdate { values, fields: chosen })
}

/// The fields of `event` that are set.
fn populated(event: &pb::Event) -> impl Iterator<Item = &'static str> {
    let limits = event.limits.unwrap_or_default();
    [
        ("display_name", !event.display_name.is_empty()),
        ("series_id", !event.series_id.is_empty()),
        ("series_display_name", !event.series_display_name.is_empty()),
        ("venue_id", !event.venue_id.is_empty()),
        ("venue_display_name", !event.venue_display_name.is_empty()),
        ("start_time", event.start_time.is_some()),
        ("end_time", event.end_time.is_some()),
        ("booking_open_time", event.booking_open_time.is_some()),
        ("booking_close_time", event.booking_close_time.is_some()),
        ("booking_close", event.booking_close.is_some()),
        ("labels", !event.labels.is_empty()),
        ("capacity", event.capacity != 0),
        ("limits.max_quantity", limits.max_quantity.is_some()),
        ("limits.hold_ttl_default", limits.hold_ttl_default.is_some()),
        ("limits.hold_ttl_max", limits.hold_ttl_max.is_some()),
        ("limits.max_extensions", limits.max_extensions.is_some()),
        ("waitlist", event.waitlist.is_some()),
    ]
    .into_iter()
    .filter_map(|(path, is_set)| is_set.then_some(path))
}

/// `event` with the chosen fields only.
fn pruned(event: pb::Event, chosen: &[EventField]) -> pb::Event {
    let (mut kept, mut limits) = (pb::Event::default(), pb::EventLimits::default());
    let given = event.limits.unwrap_or_default();
    let mut event = event;
    for field in chosen {
        match field {
            EventField::DisplayName => kept.display_name = take(&mut event.display_name),
            EventField::SeriesId => kept.series_id = take(&mut event.series_id),
            EventField::SeriesDisplayName => kept.series_display_name = take(&mut event.series_display_name),
            EventField::VenueId => kept.venue_id = take(&mut event.venue_id),
            EventField::VenueDisplayName => kept.venue_display_name = take(&mut event.venue_display_name),
            EventField::StartTime => kept.start_time = event.start_time,
            EventField::EndTime => kept.end_time = event.end_time,
            EventField::BookingOpenTime => kept.booking_open_time = event.booking_open_time,
            EventField::BookingCloseTime => kept.booking_close_time = event.booking_close_time,
            EventField::BookingClose => kept.booking_close = event.booking_close,
            EventField::Labels => kept.labels = take(&mut event.labels),
            EventField::Capacity => kept.capacity = event.capacity,
            EventField::MaxQuantity => limits.max_quantity = given.max_quantity,
            EventField::HoldTtlDefault => limits.hold_ttl_default = given.hold_ttl_default,
            EventField::HoldTtlMax => limits.hold_ttl_max = given.hold_ttl_max,
            EventField::MaxExtensions => limits.max_extensions = given.max_extensions,
            EventField::Waitlist => kept.waitlist = event.waitlist,
        }
    }
    kept.limits = Some(limits);
    kept
}

/// The event that a message is about.
pub fn event_id(text: &str) -> Result<EventId, Status> {
    let mut fields = Fields::default();
    let id = fields.event_id("event_id", text);
    fields.finish(id)
}

/// The ids of a batch, each once.
pub fn batch_ids(message: &pb::BatchGetAvailabilityRequest) -> Result<Vec<EventId>, Status> {
    let mut fields = Fields::default();
    let size = fields.batch("event_ids", message.event_ids.len());
    let mut ids = Vec::new();
    for (place, text) in message.event_ids.iter().enumerate().take(*limits::BATCH.end()) {
        ids.extend(fields.event_id(&format!("event_ids[{place}]"), text));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    fields.finish(size.map(|()| ids))
}

/// What a page of events holds, and how many.
pub fn list_filter(message: &pb::ListEventsRequest) -> Result<(Filter, u32), Status> {
    let mut fields = Fields::default();
    let series_id = fields.optional_id("series_id", &message.series_id, SeriesId::parse);
    let venue_id = fields.optional_id("venue_id", &message.venue_id, VenueId::parse);
    let states = states(&mut fields, &message.states, |state| match state {
        pb::EventState::Open | pb::EventState::Unspecified => EventState::Open,
        pb::EventState::Closed => EventState::Closed,
        pb::EventState::Cancelled => EventState::Cancelled,
        pb::EventState::Deleted => EventState::Deleted,
    });
    let start_from = fields.bound("start_time_from", message.start_time_from);
    let start_before = fields.bound("start_time_before", message.start_time_before);
    let size = fields.page_size(message.page_size);
    let all = || {
        let filter = Filter {
            series_id: series_id?,
            venue_id: venue_id?,
            states,
            start_from: start_from?,
            start_before: start_before?,
        };
        Some((filter, size?))
    };
    let all = all();
    fields.finish(all)
}

/// Where a page begins.
pub fn cursor(filters: &pb::ListEventsRequest, token: &str) -> Option<Cursor> {
    page_token::decode(filters, token)
}
