//! Authentication, authorization, isolation and limits.

mod audit;
mod binding;
mod canary;
mod certificates;
mod commands;
mod database;
mod isolation;
mod keys;
mod limits;
mod permissions;
mod roles;
mod tls;
mod tokens;
