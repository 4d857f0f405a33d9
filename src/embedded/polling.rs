//! Polls the files and locks of other processes, outside the runtime.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::EmbeddedError;

pub(super) const POLL: Duration = Duration::from_millis(10);

/// Runs blocking work on a separate thread. If this future is dropped, the thread goes on without it, while a runtime
/// would wait for its own blocking tasks before it ends.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    let (sender, result) = oneshot::channel();
    let thread = move || drop(sender.send(work()));
    std::thread::Builder::new()
        .name("postgres-start".to_owned())
        .spawn(thread)
        .map_err(|error| EmbeddedError::Internal(error.to_string()))?;
    let panicked = |_| Err(EmbeddedError::Internal("a thread panicked".to_owned()));
    result.await.unwrap_or_else(panicked)
}

/// Repeats `ask` until it returns a value; none after the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on a thread of its own: the locks and files of other processes send no notification"
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
