//! Results to messages.

mod event;
mod execution;
mod history;
mod reservation;
mod session;
mod value;
mod waitlist;

pub use event::{audit, availability, booking_close, counts, event, event_state, sample};
pub use execution::{contention, creation, execution};
pub use history::{change, changed_entry, changed_event, changed_reservation};
pub use reservation::reservation;
pub use session::{role, session};
pub use value::{duration, timestamp};
pub use waitlist::waitlist_entry;
