//! What a command prints: a table for people, or JSON for scripts.

use std::{
    fmt::Display,
    io::{self, Write},
};

use clap::Args;
use prost::Message;
use serde_json::Value;

use super::failure::Failure;
use crate::rpc::json;

/// How a command prints.
#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// Print JSON, one object a line, in place of a table
    #[arg(long)]
    pub json: bool,
}

/// Prints text as it is. Fails where nothing reads it any more.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints a message with this full name, as a line of JSON.
pub fn print_json(name: &str, message: &impl Message) -> Result<(), Failure> {
    print(format_args!("{}\n", json::value(name, message)))
}

/// Prints a message with this full name, with the request_id that it is the answer to.
pub fn print_json_of(name: &str, message: &impl Message, request_id: &str) -> Result<(), Failure> {
    let mut value = json::value(name, message);
    value["requestId"] = Value::from(request_id);
    print(format_args!("{value}\n"))
}
