//! reservd: the gRPC reservation ledger. It never oversells, never books one user twice, never loses an acknowledged
//! response, and stays fast when everyone wants the same event.
//!
//! # The map, in reading order
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | the rules, pure: `decide(snapshot, command, now) -> changes or refusal` |
//! | [`store`] | the SQL: one statement a function, transactions, connections |
//! | [`ops`] | the use cases: the engine that executes commands, one transaction each or in batches |
//! | [`auth`] | authentication and authorization: tokens, certificates, sessions, permissions, rate limits |
//! | [`net`] | connections: TLS, and every bound on a connection and a call |
//! | [`rpc`] | the gRPC API: decode, one use case, encode; statuses of errors; layers |
//! | [`broker`] | RabbitMQ: publishes every change, consumes commands and sign-outs |
//! | [`worker`] | background work: expiry, promotion, retention, feed, gauges, health |
//! | [`telemetry`] | spans, logs, metrics |
//! | [`config`] | the settings |
//! | [`embedded`] | the PostgreSQL that reservd runs itself |
//! | [`app`] | the composition root |
//! | [`cli`] | the command line |
//!
//! Arrows point down only: `rpc, broker, worker -> ops -> domain, store`; `rpc, broker -> auth -> domain`; `rpc -> net -> auth`;
//! `store -> domain`; `domain` depends on no other module. `broker` uses the messages and statuses of `rpc`.
//! `tests/it/tidy.rs` checks this.
//!
//! # One Reserve
//!
//! 1. [`rpc::layers`] start a span with the caller's trace context, set the deadline, authenticate and authorize the
//!    caller, receive the whole message, and admit the call or refuse it with OVERLOADED.
//! 2. [`rpc::decode`] turns the message into a [`domain::command::Command`], or reports every bad field.
//! 3. [`ops::execute`] executes it in a task of its own, which a caller cannot cancel half-way.
//! 4. The executor locks the event's row (`SELECT ... FOR UPDATE`) and reads the input of the decision with
//!    PostgreSQL's time; or reads without the lock (OPTIMISTIC), or only what is not cached (COALESCED); calls
//!    [`domain::decide::decide`]; and writes counters, reservation and change in one statement that checks the
//!    event's version again.
//! 5. [`rpc::encode`] responds with the reservation and an execution report; [`rpc::status`] with the refusal.
//!
//! # Invariants
//!
//! - `held + confirmed <= capacity`, always, for every observer; a CHECK constraint says so too.
//! - A user has at most one live reservation for an event; a unique constraint says so too.
//! - No unit is free while the next waitlist entry fits: the transaction that frees units also promotes waitlist
//!   entries.
//! - Every success is exactly one change with a version of its own; a refusal writes nothing.
//! - The counters equal the sums over the rows; the versions of an event's changes have no gap.
//! - No transaction runs inside a request's future, and a transaction contains only SQL.

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
