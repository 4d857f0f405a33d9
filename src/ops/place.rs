//! A call's place among those under way. Work that goes on without its caller keeps it until it is
//! done; else callers that hang up at once could start any amount of it.

use std::{any::Any, sync::Arc};

/// Whatever stands for the place; gone with its last clone.
pub type Place = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static PLACE: Option<Place>;
}

/// Runs `call` in its place.
pub fn hold<F: Future>(place: Option<Place>, call: F) -> impl Future<Output = F::Output> {
    PLACE.scope(place, call)
}

/// The place of the call that this runs in; none in the background.
pub(super) fn held() -> Option<Place> {
    PLACE.try_with(Clone::clone).ok().flatten()
}
