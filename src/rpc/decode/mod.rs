//! Messages to commands and filters. Every bad field is found before any is answered.

mod booking_close;
pub mod counts;
pub mod event;
pub mod event_state;
mod frame;
pub mod history;
pub mod reservation;
pub mod session;
mod target;
pub mod waitlist;

pub use booking_close::relative_time;
pub use frame::{Decoded, lock_wait_of, strategy_of};
pub use target::{entry_target, for_caller, restrict, target};
