//! What is still to come of a request that was answered without being read to its end: a call that was
//! refused, most of all. HTTP/2 resets such a stream; what then still arrives on it counts as the
//! client's mistake, and a connection with enough of these is closed, though nobody did anything wrong.
//! So it is read, for a while, and forgotten.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Buf;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;
use tonic::body::Body;

/// How long the rest may take to come.
const MAX_TIME: Duration = Duration::from_secs(1);

/// A request's body that is read to its end, by others or by itself.
pub struct Unread(Rest);

struct Rest {
    /// None: it was read to its end.
    body: Option<Body>,
    /// How many bytes more it may bring by itself.
    left: usize,
}

impl Unread {
    /// Sees to it that up to `max` bytes of `body` are read when nobody else does.
    pub fn new(body: Body, max: usize) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        Self(Rest { body, left: max })
    }
}

impl Rest {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(body) = &mut self.body {
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Buf::remaining);
                    match self.left.checked_sub(length) {
                        Some(left) => self.left = left,
                        None => self.body = None,
                    }
                }
                Poll::Ready(_) => self.body = None,
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Self(rest) = self;
        // Most of the time it is here already, and needs no task.
        if rest.poll(&mut Context::from_waker(Waker::noop())).is_pending()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let mut rest = Rest { body: rest.body.take(), left: rest.left };
            runtime.spawn(timeout(MAX_TIME, std::future::poll_fn(move |cx| rest.poll(cx))));
        }
    }
}

impl http_body::Body for Unread {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.0.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
