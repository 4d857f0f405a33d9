//! The response body of WatchEvent, made frame by frame: what a thousand watchers of one event get is encoded once and
//! shared, not copied.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::{Status, body::Body};

use super::{encode, pb, status};
use crate::{
    domain::change::Change,
    ops::feed::{Counts, Page, Told, Watch},
};

/// The body that sends the updates of `watch`, and its end.
pub fn body(watch: Watch) -> Body {
    Body::new(StreamBody::new(stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        let (frame, watch) = match watch.next().await {
            Ok(told) => (Frame::data(message(&told)), Some(watch)),
            Err(end) => (Frame::trailers(status::trailers(&status::of_watch_end(&end))), None),
        };
        Some((Ok::<_, Status>(frame), watch))
    })))
}

fn message(told: &Told) -> Bytes {
    match told {
        Told::Snapshot(event) => framed(&pb::WatchEventResponse {
            version: event.counters.version,
            snapshot: Some(encode::event(event)),
            counts: Some(encode::counts(&Counts::of(event))),
            ..Default::default()
        }),
        Told::Changes { page, known: 0 } => page.encoded(|page| changes(&page.changes, page)),
        Told::Changes { page, known } => changes(page.changes.get(*known..).unwrap_or_default(), page),
        Told::Nothing(version) => framed(&pb::WatchEventResponse { version: *version, ..Default::default() }),
    }
}

fn changes(changes: &[Change], page: &Page) -> Bytes {
    framed(&pb::WatchEventResponse {
        changes: changes.iter().map(encode::change).collect(),
        version: page.version(),
        snapshot: None,
        counts: page.counts.as_ref().map(encode::counts),
    })
}

/// A message with gRPC's prefix: not compressed, and so many bytes.
fn framed(message: &pb::WatchEventResponse) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    // Pages are bounded far below 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Never an error: there is room for its length.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}
