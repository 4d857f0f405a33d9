//! Builds statuses: each has an `ErrorInfo`, and further details as far as there is room.

use std::{collections::HashMap, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    domain::{
        command::{Action, Command},
        ids::{EventId, ReservationId, Target},
        time::Timestamp,
    },
    rpc::pb::ErrorReason,
};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "reservd";

/// Bytes of the items that a status lists in its details, and of those in its message. A status travels in HTTP/2
/// headers: clients take 8 KiB of these (gRPC's C core) or 16 (Rust), and beyond that the caller gets no reason at all.
pub(super) const DETAILS_ROOM: usize = 3 * 1024;
pub(super) const MESSAGE_ROOM: usize = 512;

/// One bad field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request.
    pub field: String,
    /// What it must be or do.
    pub description: String,
}

/// What a call is about, for the metadata of its error.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The event.
    pub event_id: Option<EventId>,
    /// The reservation, where the call names it by its id.
    pub reservation_id: Option<ReservationId>,
    /// The waitlist entry, where the call names it by its id.
    pub entry_id: Option<ReservationId>,
}

impl About {
    /// An event.
    pub fn event(event_id: &EventId) -> Self {
        Self { event_id: Some(event_id.clone()), ..Self::default() }
    }

    /// A reservation of an event.
    pub fn reservation(event_id: &EventId, target: &Target) -> Self {
        Self { reservation_id: id_of(target), ..Self::event(event_id) }
    }

    /// A waitlist entry of an event.
    pub fn entry(event_id: &EventId, target: &Target) -> Self {
        Self { entry_id: id_of(target), ..Self::event(event_id) }
    }

    /// What a command is about.
    pub fn of(command: &Command) -> Self {
        match &command.action {
            Action::Leave { target } => Self::entry(&command.event_id, target),
            _ => match command.target() {
                Some(target) => Self::reservation(&command.event_id, &target),
                None => Self::event(&command.event_id),
            },
        }
    }
}

fn id_of(target: &Target) -> Option<ReservationId> {
    match target {
        Target::Id(id) => Some(*id),
        Target::User(_) => None,
    }
}

/// A status in the making.
pub(super) struct Builder {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    pub(super) details: ErrorDetails,
}

impl Builder {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: Vec::new(), details: ErrorDetails::new() }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Names what the call is about.
    pub(super) fn about(mut self, subject: &About) -> Self {
        let About { event_id, reservation_id, entry_id } = subject;
        let ids = [
            ("event_id", event_id.as_ref().map(ToString::to_string)),
            ("reservation_id", reservation_id.as_ref().map(ToString::to_string)),
            ("entry_id", entry_id.as_ref().map(ToString::to_string)),
        ];
        for (key, id) in ids {
            // What the error itself is about comes first.
            if let Some(id) = id.filter(|_| self.metadata.iter().all(|(known, _)| *known != key)) {
                self.metadata.push((key, id));
            }
        }
        self
    }

    pub(super) fn with_time(self, key: &'static str, time: Option<Timestamp>) -> Self {
        match time.and_then(rfc3339) {
            Some(text) => self.with(key, text),
            None => self,
        }
    }

    pub(super) fn retry_in(mut self, wait: Duration) -> Self {
        self.details.set_retry_info(Some(wait));
        self
    }

    pub(super) fn resource(mut self, kind: &str, name: impl Into<String>) -> Self {
        self.details.set_resource_info(kind, name, "", self.message.clone());
        self
    }

    pub(super) fn bad_field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    pub(super) fn finish(mut self) -> Status {
        let metadata: HashMap<_, _> = self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.details.set_error_info(self.reason.as_str_name(), DOMAIN, metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

/// Names all bad fields, or as many as there is room for and how many more there are.
pub(super) fn bad_fields(code: Code, reason: ErrorReason, violations: &[Violation]) -> Builder {
    let summary: Vec<_> = violations.iter().map(|bad| format!("{} {}", bad.field, bad.description)).collect();
    let mut builder = Builder::new(code, reason, sentence(&summary, "; "));
    // Each is framed by some bytes more.
    let fit = fitting(violations, DETAILS_ROOM, |bad| bad.field.len() + bad.description.len() + 8);
    for bad in &violations[..fit] {
        builder = builder.bad_field(&bad.field, &bad.description);
    }
    let more = violations.len() - fit;
    if more > 0 { builder.with("unlisted", more) } else { builder }
}

/// How many of `items` fit into `room`; the first always does.
pub(super) fn fitting<T>(items: &[T], room: usize, size: impl Fn(&T) -> usize) -> usize {
    let mut left = room;
    let fit = items.iter().take_while(|item| {
        let size = size(item);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fit.count().max(1).min(items.len())
}

/// `items` as a sentence, as far as there is room.
pub(super) fn sentence(items: &[String], separator: &str) -> String {
    let fit = fitting(items, MESSAGE_ROOM, |item| item.len() + separator.len());
    let more = items.len() - fit;
    let listed = items[..fit].join(separator);
    if more == 0 { listed } else { format!("{listed}{separator}and {more} more") }
}

/// A time as text; None beyond the year 9999.
pub fn rfc3339(time: Timestamp) -> Option<String> {
    let nanos = i128::from(time.micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}
