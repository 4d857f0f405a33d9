//! The integration tests: one binary, real gRPC, a real PostgreSQL, a private database for each test.

mod bench;
mod cli;
mod clients;
mod coalesced;
mod crash;
mod demo;
mod diagnostics;
mod drain;
mod embedded;
mod errors;
mod events;
mod hostile;
mod import;
mod model;
mod reservations;
mod startup;
mod support;
mod telemetry;
mod tidy;
mod validation;
mod walk;
