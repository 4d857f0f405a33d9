//! Results to messages.

mod event;
mod execution;
mod history;
mod reservation;
mod session;
mod value;
mod waitlist;

pub use event::{audit, availability, counts, event};
pub use execution::{contention, execution};
pub use history::{change, changed_entry, changed_event, changed_reservation};
pub use reservation::reservation;
pub use session::session;
pub use value::{duration, timestamp};
pub use waitlist::waitlist_entry;
