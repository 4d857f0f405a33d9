//! The deadline of each RPC: the caller's `grpc-timeout`, or the default; never beyond the maximum.
//!
//! tonic has a time-out of its own, which answers CANCELLED. This one answers DEADLINE_EXCEEDED, a
//! moment earlier, and tells the handlers how much time they have.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{super::status, Response};

/// How much earlier than the caller's deadline this server's is, at most: so that it, and not tonic's,
/// answers, and the answer is there before the caller's own patience ends.
const HEAD_START: Duration = Duration::from_millis(5);

/// When an RPC's time is over; in the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When its answer must have begun.
    answer: Instant,
    /// When its caller stops listening, where it said so.
    asked: Option<Instant>,
}

/// The deadline that this layer gave to a request.
pub fn deadline_of<T>(request: &tonic::Request<T>) -> Instant {
    match request.extensions().get::<Deadline>() {
        Some(deadline) => deadline.answer,
        // Only where the layer is missing; no time at all is a safe answer to that.
        None => Instant::now(),
    }
}

/// The deadline that the caller itself set: the only one that ends a stream.
pub fn asked_deadline_of<T>(request: &tonic::Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().and_then(|deadline| deadline.asked)
}

/// Gives every RPC a deadline.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    /// For callers that set none.
    pub default: Duration,
    /// The most that a caller gets.
    pub max: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner, settings: *self }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    settings: DeadlineLayer,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let asked = grpc_timeout(request.headers()).map(|asked| asked - HEAD_START.min(asked / 10));
        let now = Instant::now();
        let answer = now + asked.unwrap_or(self.settings.default).min(self.settings.max);
        request.extensions_mut().insert(Deadline { answer, asked: asked.map(|asked| now + asked) });
        let work = self.inner.call(request);
        Box::pin(async move {
            match timeout_at(answer, work).await {
                Ok(response) => response,
                Err(_) => Ok(status::deadline().into_http()),
            }
        })
    }
}

/// The `grpc-timeout` header: at most eight digits and a unit.
/// Source: gRPC over HTTP2, "Timeout".
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header value"));
        grpc_timeout(&headers)
    }

    #[test]
    fn the_header_is_read_as_the_specification_says() {
        for (text, millis) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("99999999m", 99_999_999), ("5000u", 5)]
        {
            assert_eq!(parsed(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parsed("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789m", "1 S"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }
}
