//! The deadline of each RPC: the caller's `grpc-timeout`, or the default; never beyond the maximum.
//!
//! tonic has a time-out of its own, which answers CANCELLED. This one answers DEADLINE_EXCEEDED, a
//! moment earlier, and tells the handlers how much time they have.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request};
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{super::status, Response};

/// How much earlier than the caller's deadline this server's is, at most: so that it, and not tonic's,
/// answers, and the answer is there before the caller's own patience ends.
const HEAD_START: Duration = Duration::from_millis(5);
/// And at least: a call that has less is over when it comes.
const LEAST_HEAD_START: Duration = Duration::from_micros(100);

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
        let head_start = |asked: Duration| (asked / 10).clamp(LEAST_HEAD_START, HEAD_START);
        let asked = grpc_timeout(request.headers()).map(|asked| asked.saturating_sub(head_start(asked)));
        let now = Instant::now();
        let answer = now + asked.unwrap_or(self.settings.default).min(self.settings.max);
        request.extensions_mut().insert(Deadline { answer, asked: asked.map(|asked| now + asked) });
        let work = self.inner.call(request);
        Box::pin(async move {
            let (mut work, mut over) = (pin!(work), pin!(sleep_until(answer)));
            poll_fn(|cx| {
                if let Poll::Ready(response) = work.as_mut().poll(cx) {
                    return Poll::Ready(response);
                }
                // Timers are right to a millisecond: of two that are closer, tonic's may well go off first.
                if Instant::now() >= answer || over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(status::deadline().into_http()));
                }
                Poll::Pending
            })
            .await
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
    use std::convert::Infallible;

    use futures::FutureExt;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header value"));
        grpc_timeout(&headers)
    }

    #[tokio::test]
    async fn no_time_at_all_is_over_before_any_timer_goes_off() {
        let never = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response, Infallible>>());
        let limits = DeadlineLayer { default: Duration::from_secs(1), max: Duration::from_secs(1) };
        for timeout in ["1n", "1u", "100u"] {
            let request = Request::builder().header("grpc-timeout", timeout).body(Body::empty()).expect("a request");
            let answer = limits.layer(never).call(request).now_or_never().expect("it is answered at once");
            let refused = tonic::Status::from_header_map(answer.expect("an answer").headers()).expect("a status");
            assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{timeout}");
        }
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
