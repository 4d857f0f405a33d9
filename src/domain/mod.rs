//! The rules of the ledger, pure: no IO, no async, no clock and no randomness of its own.
//!
//! Values ([`ids`], [`limits`], [`time`]) can't hold anything invalid. [`event`], [`reservation`] and [`waitlist`] are
//! the entities. A [`command`] asks for a [`change`] of one of them, and [`decide`] answers from a [`snapshot`] with the
//! change or with a [`refusal`]. Everything else in the program only carries snapshots to `decide` and its changes to
//! the database.

pub mod audit;
pub mod backoff;
pub mod booking_close;
pub mod caller;
pub mod change;
pub mod command;
pub mod commit;
pub mod contention;
pub mod decide;
pub mod event;
pub mod ids;
pub mod limits;
pub mod needs;
pub mod refusal;
pub mod relay;
pub mod reservation;
pub mod snapshot;
pub mod time;
pub mod waitlist;
