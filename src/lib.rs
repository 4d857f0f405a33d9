//! reservd: the gRPC reservation ledger. It never oversells, never books one user twice, never forgets
//! an acknowledged answer, and stays fast when everybody wants the same event.
//!
//! # The map, in reading order
//!
//! | module | what it is |
//! | --- | --- |
//! | [`domain`] | the rules, pure: `decide(snapshot, command, now) -> changes or refusal` |
//! | [`store`] | the SQL: one statement a function, transactions, connections |
//! | [`ops`] | the use cases: what is one transaction, and the executors that carry commands out |
//! | [`auth`] | who calls and what they may do: tokens, certificates, sessions, the table of permissions, rates |
//! | [`net`] | connections: TLS, and every limit on them and their calls |
//! | [`rpc`] | the gRPC surface: decode, one use case, encode; errors to statuses; layers |
//! | [`broker`] | RabbitMQ: publishes every change, takes commands, hears who signs out |
//! | [`worker`] | background work: expiry, retention, feed, gauges, health |
//! | [`telemetry`] | spans, logs, metrics |
//! | [`config`] | the settings |
//! | [`embedded`] | the PostgreSQL that reservd runs itself |
//! | [`app`] | the composition root |
//! | [`cli`] | the command line |
//!
//! Arrows point down only: `rpc, broker, worker -> ops -> domain, store`; `rpc, broker -> auth -> domain`; `rpc -> net -> auth`;
//! `store -> domain`; `domain` knows nobody. `broker` speaks the messages and statuses of `rpc`.
//! `tests/it/tidy.rs` holds this.
//!
//! # One Reserve
//!
//! 1. [`rpc::layers`]: a span with the caller's trace context; a deadline; who calls, and may it; the whole
//!    message; a place among the calls under way, or OVERLOADED.
//! 2. [`rpc::decode`] makes a [`domain::command::Command`] of the message, or names every bad field.
//! 3. [`ops::execute`] carries it out in a task of its own, which no caller can abandon half-way.
//! 4. The executor locks the event's row (`SELECT ... FOR UPDATE`) and reads what the decision needs,
//!    with PostgreSQL's time; or reads without the lock (OPTIMISTIC), or only what it does not remember
//!    (COALESCED); calls [`domain::decide::decide`]; and writes counters, reservation and change in one
//!    statement that checks the event's version once more.
//! 5. [`rpc::encode`] answers with the reservation and how it was made; [`rpc::status`] with the
//!    refusal.
//!
//! # Invariants
//!
//! - `held + confirmed <= capacity`, always, for every observer; a CHECK constraint says so too.
//! - A user has at most one live reservation for an event; a unique constraint says so too.
//! - No place is free while somebody waits whom it fits and whose turn it is: who frees places serves the
//!   waitlist in the same transaction.
//! - Every success is exactly one answering change with a version of its own; a refusal writes nothing.
//! - The counters equal the sums over the rows; the versions of an event's changes have no gap.
//! - No transaction runs inside a request's future, and nothing but SQL happens inside a transaction.

#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod net;
pub mod ops;
pub mod rpc;
pub mod store;
pub mod telemetry;
pub mod worker;
