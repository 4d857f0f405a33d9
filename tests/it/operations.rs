//! What operators do while calls run: a backup and its restore, and a rolling upgrade.

mod backup;
mod upgrade;
