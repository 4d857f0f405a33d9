//! A call's place among those under way, and among those of its kind where there is a bound on these. Work
//! that goes on without its caller keeps it until it is done; else callers that hang up at once could start
//! any amount of it.

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

/// This place together with the one in which this runs already, if there is one.
pub fn within(place: Place) -> Place {
    match held() {
        None => place,
        Some(outer) => Arc::new((outer, place)),
    }
}

/// The place of the call that this runs in; none in the background.
pub(super) fn held() -> Option<Place> {
    PLACE.try_with(Clone::clone).ok().flatten()
}
