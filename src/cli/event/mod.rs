//! `reservd event`: events, one at a time or from and to CSV files.

mod change;
mod export;
mod fields;
mod filters;
mod import;
mod list;
mod rows;
mod show;

use clap::Subcommand;

pub use self::{filters::Filters, rows::name_of_state};
use super::failure::Failure;

/// The commands of `reservd event`.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// List events, with how much of each is taken
    List(list::List),
    /// Show everything about an event
    Show(show::Show),
    /// Create an event
    Create(change::Create),
    /// Change fields of an event
    Update(change::Update),
    /// Let a closed event take reservations again
    Open(change::Open),
    /// Let an event take no more reservations; those that it has stay
    Close(change::Close),
    /// Cancel an event for ever, with all its reservations and waitlist entries
    Cancel(change::Cancel),
    /// Create the events of a CSV file; safe to repeat
    Import(import::Import),
    /// Write events as a CSV file, which can be imported
    Export(export::Export),
}

impl EventCommand {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Create(create) => create.run().await,
            Self::Update(update) => update.run().await,
            Self::Open(open) => open.run().await,
            Self::Close(close) => close.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::Import(import) => import.run().await,
            Self::Export(export) => export.run().await,
        }
    }
}
