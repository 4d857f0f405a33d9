//! What is still to come of a request that was refused before its message was there. HTTP/2 resets the
//! stream of a request that nobody reads; what then still arrives on it counts as its client's mistake,
//! and a connection with enough of these is closed, though nobody did anything wrong. So it is read, for
//! a while, and forgotten.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Buf;
use http_body::Body as _;
use tokio::time::timeout;
use tonic::body::Body;

/// How long it is read.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How many bytes of it.
const MAX_BYTES: usize = 64 * 1024;

/// Reads the rest of a request that is answered already.
pub fn forget(mut body: Body) {
    let mut left = MAX_BYTES;
    // Most of the time it is here already, and needs no task.
    if poll_rest(&mut body, &mut left, &mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::spawn(timeout(MAX_TIME, poll_fn(move |cx| poll_rest(&mut body, &mut left, cx))));
    }
}

fn poll_rest(body: &mut Body, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let Poll::Ready(read) = Pin::new(&mut *body).poll_frame(cx) else { return Poll::Pending };
        let Some(Ok(frame)) = read else { return Poll::Ready(()) };
        let length = frame.data_ref().map_or(0, Buf::remaining);
        let Some(less) = left.checked_sub(length) else { return Poll::Ready(()) };
        *left = less;
    }
}
