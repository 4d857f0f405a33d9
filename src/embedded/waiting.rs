//! Waiting for what cannot wake us, other processes' files and locks, apart from the runtime.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::EmbeddedError;

pub(super) const POLL: Duration = Duration::from_millis(10);

/// Runs blocking work on a thread that nobody waits for where we are dropped: a runtime
/// would not end before a blocking task of its own did.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    let (tell, told) = oneshot::channel();
    let thread = move || drop(tell.send(work()));
    std::thread::Builder::new()
        .name("postgres-start".to_owned())
        .spawn(thread)
        .map_err(|error| EmbeddedError::Internal(error.to_string()))?;
    let panicked = |_| Err(EmbeddedError::Internal("its thread panicked".to_owned()));
    told.await.unwrap_or_else(panicked)
}

/// Asks again and again until there is an answer; `None` once the deadline has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on a thread of its own: other processes' locks and files cannot wake us"
)]
pub(super) fn poll_until<T>(
    deadline: Instant,
    mut ask: impl FnMut() -> Result<Option<T>, EmbeddedError>,
) -> Result<Option<T>, EmbeddedError> {
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
