//! A call's permits: its place among the calls in flight, and among those of its kind where these are bounded. Work
//! that goes on without its caller keeps them until it is done; else callers that hang up at once could start any
//! amount of it.

use std::{any::Any, sync::Arc};

/// Whatever stands for the permits; given back with its last clone.
pub type Permit = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static PERMIT: Option<Permit>;
}

/// Runs `call` with its permit.
pub fn hold<F: Future>(permit: Option<Permit>, call: F) -> impl Future<Output = F::Output> {
    PERMIT.scope(permit, call)
}

/// This permit together with the one that this runs with already, if there is one.
pub fn within(permit: Permit) -> Permit {
    match held() {
        None => permit,
        Some(outer) => Arc::new((outer, permit)),
    }
}

/// The permit of the call that this runs in; none in the background.
pub(super) fn held() -> Option<Permit> {
    PERMIT.try_with(Clone::clone).ok().flatten()
}
