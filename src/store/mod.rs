//! The SQL of the ledger: one statement per function, named in its first line, so that `pg_stat_statements` and the
//! logs show the name.
//!
//! It decides nothing. [`pool`] and [`tx`] are the only ways to a connection; [`error`] classifies errors by SQLSTATE
//! and constraint name, never by text. [`tables`] declares each table once; [`load`] reads what a decision needs,
//! [`write`] writes what it decided; [`events`], [`reservations`], [`waitlist`], [`changes`], [`event_counts`] and
//! [`holds`] do the rest.

pub mod changes;
pub mod columns;
pub mod error;
pub mod event_counts;
pub mod events;
pub mod holds;
pub mod load;
pub mod page;
pub mod pool;
pub mod relay;
pub mod reservations;
pub mod schema;
pub mod tables;
pub mod tx;
mod types;
pub mod waitlist;
pub mod worker_locks;
pub mod write;

pub use error::StoreError;
pub use load::Context;
pub use pool::{Lease, Pool, PoolSettings};
pub use tx::{Budget, LockWait, Tx};
