//! A call's permits: one for the calls in flight, and one for the calls of its kind where these are bounded. Work that
//! goes on without its caller keeps its permits until it is done; otherwise callers that hang up at once could start
//! any amount of work.

use std::{any::Any, sync::Arc};

/// The permits of a call, of any type. They are released with the last clone.
pub type Permit = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static PERMIT: Option<Permit>;
}

/// Runs `call` with its permit.
pub fn hold<F: Future>(permit: Option<Permit>, call: F) -> impl Future<Output = F::Output> {
    PERMIT.scope(permit, call)
}

/// This permit together with the current call's permit, if there is one.
pub fn within(permit: Permit) -> Permit {
    match held() {
        None => permit,
        Some(outer) => Arc::new((outer, permit)),
    }
}

/// The permit of the current call; none in background work.
pub(super) fn held() -> Option<Permit> {
    PERMIT.try_with(Clone::clone).ok().flatten()
}
