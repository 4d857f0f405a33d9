//! The response body of WatchChanges, made frame by frame: what a thousand watchers of one event get is encoded once and
//! shared, not copied.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::{Status, body::Body};

use super::{encode, pb, status};
use crate::{
    domain::{change::Change, ids::EventId, time::Timestamp},
    ops::{
        Ledger,
        feed::{Counts, Page, Told, Update, Watches},
    },
};

/// The body that sends the updates of `watches`, and their end.
pub fn body(ledger: Ledger, watches: Watches) -> Body {
    Body::new(StreamBody::new(stream::unfold(Some((ledger, watches)), async |watches| {
        let (ledger, mut watches) = watches?;
        let (frame, watches) = match watches.next().await {
            Ok(update) => (Frame::data(message(update.as_ref(), ledger.now())), Some((ledger, watches))),
            Err(end) => (Frame::trailers(status::trailers(&status::of_watch_end(&end))), None),
        };
        Some((Ok::<_, Status>(frame), watches))
    })))
}

/// The message of an update, or a heartbeat.
fn message(update: Option<&Update>, now: Timestamp) -> Bytes {
    let server_time = Some(encode::timestamp(now));
    let Some(Update { event_id, told }) = update else {
        return framed(&pb::WatchChangesResponse { server_time, ..Default::default() });
    };
    match told {
        Told::Snapshot(event) => framed(&pb::WatchChangesResponse {
            event_id: event_id.to_string(),
            version: event.counters.version,
            snapshot: Some(encode::event(event, None)),
            server_time,
            ..counted(Some(&Counts::of(event)))
        }),
        Told::Changes { page, known: 0 } => page.encoded(|page| changes(event_id, &page.changes, page)),
        Told::Changes { page, known } => changes(event_id, page.changes.get(*known..).unwrap_or_default(), page),
    }
}

fn changes(event_id: &EventId, changes: &[Change], page: &Page) -> Bytes {
    framed(&pb::WatchChangesResponse {
        event_id: event_id.to_string(),
        changes: changes.iter().map(encode::change).collect(),
        version: page.version(),
        server_time: Some(encode::timestamp(page.time)),
        ..counted(page.counts.as_ref())
    })
}

/// A message with the counts and the state, where the stream has caught up.
fn counted(counts: Option<&Counts>) -> pb::WatchChangesResponse {
    pb::WatchChangesResponse {
        counts: counts.map(|counts| encode::counts(counts.capacity, counts.counters, None)),
        state: counts.map_or(0, |counts| encode::event_state(counts.state).into()),
        ..Default::default()
    }
}

/// A message with gRPC's prefix: not compressed, and so many bytes.
fn framed(message: &pb::WatchChangesResponse) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    // Pages are bounded far below 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Never an error: there is room for its length.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}
