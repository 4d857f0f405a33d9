//! WatchEvent on the wire: the body of its response, made by hand, so that what a thousand watchers of
//! one event are told is encoded once and shared, not copied.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, stream};
use http::HeaderMap;
use http_body::Frame;
use pin_project_lite::pin_project;
use prost::Message;
use tonic::{Status, body::Body};

use super::{encode, pb, status};
use crate::{
    domain::change::Change,
    ops::feed::{Counts, End, Page, Told, Watch},
};

/// The body that tells what `watch` has to tell, and its end.
pub fn body(watch: Watch) -> Body {
    let frames = stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        Some(match watch.next().await {
            Ok(told) => (Frame::data(message(&told)), Some(watch)),
            Err(end) => (Frame::trailers(trailers(&end)), None),
        })
    });
    Body::new(FrameBody { frames })
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
    // There is room: the length was asked.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

fn trailers(end: &End) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = status::of_watch_end(end);
    if status.add_header(&mut trailers).is_err() {
        // A message that is no header's: none of ours is.
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    trailers
}

pin_project! {
    /// Frames as they come.
    struct FrameBody<S> {
        #[pin]
        frames: S,
    }
}

impl<S: Stream<Item = Frame<Bytes>>> http_body::Body for FrameBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.project().frames.poll_next(cx).map(|frame| frame.map(Ok))
    }
}
