//! The deadline of each RPC: the caller's `grpc-timeout`, or the default; never beyond the maximum.
//!
//! It answers DEADLINE_EXCEEDED, and gives the handlers their deadline.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use http::{HeaderMap, Request};
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;

use super::{
    super::status,
    middleware::{Answer, Inner, Middleware},
};

/// How much earlier than the caller's deadline this server's is, at most: so that the answer arrives before the caller's
/// own timer fires.
const HEAD_START: Duration = Duration::from_millis(5);
/// How much earlier it is, at least: a call with less time left has passed its deadline when it arrives.
const MIN_HEAD_START: Duration = Duration::from_micros(100);

/// The deadline of an RPC; in the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When its answer must have begun.
    answer: Instant,
    /// The caller's own deadline, if it has set one.
    asked: Option<Instant>,
}

impl Deadline {
    /// When the answer must have begun.
    pub const fn answer(&self) -> Instant {
        self.answer
    }

    /// Lets the work for an answer that others wait for too go on for as long as they wait.
    pub fn extend_to(&mut self, latest: Instant) {
        self.answer = self.answer.max(latest);
    }
}

/// The deadline that this layer gave to a request.
pub fn deadline_of<T>(request: &tonic::Request<T>) -> Instant {
    match request.extensions().get::<Deadline>() {
        Some(deadline) => deadline.answer,
        // Only if the layer is missing; no time at all is the safe choice then.
        None => Instant::now(),
    }
}

/// The deadline that the caller has set: the only one that ends a stream.
pub fn asked_deadline_of<T>(request: &tonic::Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().and_then(|deadline| deadline.asked)
}

/// Gives every RPC a deadline.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For callers that set none.
    pub default: Duration,
    /// The most that a caller gets.
    pub max: Duration,
}

impl Middleware for Deadlines {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, mut request: Request<Body>) -> Answer {
        let head_start = |asked: Duration| (asked / 10).clamp(MIN_HEAD_START, HEAD_START);
        let asked = grpc_timeout(request.headers()).map(|asked| asked.saturating_sub(head_start(asked)));
        let now = Instant::now();
        let answer = now + asked.unwrap_or(self.default).min(self.max);
        request.extensions_mut().insert(Deadline { answer, asked: asked.map(|asked| now + asked) });
        let work = inner.call(request);
        Box::pin(async move {
            let mut timer = pin!(sleep_until(answer));
            // Hand-polled to read the clock as well: timers are exact to a millisecond, and may fire later.
            let passed = poll_fn(|cx| match Instant::now() >= answer {
                true => Poll::Ready(()),
                false => timer.as_mut().poll(cx),
            });
            tokio::select! {
                biased;
                response = work => response,
                () = passed => Ok(status::deadline().into_http()),
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
mod tests;
