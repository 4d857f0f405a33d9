//! What the commands that call a server have in common: the server, the format, and for those that change something
//! the request_id.

use clap::Args;
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use super::{
    call_error::{failed, mutation_failed},
    failure::Failure,
    output::{Format, print, print_json, print_json_of},
    table::Table,
    target::Target,
};
use crate::rpc::pb::ExecutionReport;

/// Items in one page.
const PAGE: i32 = 1000;

/// The options of a command that calls a server.
#[derive(Clone, Debug, Args)]
pub struct Client {
    #[command(flatten)]
    pub format: Format,
    #[command(flatten)]
    pub target: Target,
}

/// The options of a command that lists something.
#[derive(Clone, Copy, Debug, Args)]
pub struct Paging {
    /// List at most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    limit: Option<i32>,
}

/// The options of a command that changes something.
#[derive(Clone, Debug, Args)]
pub struct Mutation {
    /// Make the command safe to repeat: with the same id it finds the first result [default: a new id]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Decide and answer as usual, but change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The answer to a mutation.
pub struct Answer<'a, M> {
    /// The full name of the message.
    pub name: &'a str,
    /// The message.
    pub message: &'a M,
    /// How the call was executed.
    pub execution: Option<&'a ExecutionReport>,
}

impl Paging {
    /// All items.
    pub const ALL: Self = Self { limit: None };

    /// Calls `page` for one page after the other, with its size and its token, and `each` with what is on it.
    pub async fn run<T>(
        self,
        mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Status>,
        mut each: impl FnMut(Vec<T>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut left, mut token) = (self.limit.unwrap_or(i32::MAX), String::new());
        loop {
            let (mut items, next) = page(left.min(PAGE), token).await.map_err(failed)?;
            items.truncate(usize::try_from(left).unwrap_or(0));
            left -= i32::try_from(items.len()).unwrap_or(left);
            each(items)?;
            if next.is_empty() || left == 0 {
                return Ok(());
            }
            token = next;
        }
    }
}

impl Format {
    /// Lists what `page` returns: as JSON, of messages with this full name; or as a table with a row for each.
    pub async fn list<T: Message>(
        self,
        paging: Paging,
        name: &str,
        page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Status>,
        mut table: Table,
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return paging.run(page, |items| items.iter().try_for_each(|item| print_json(name, item))).await;
        }
        let each = |items: Vec<T>| {
            items.iter().for_each(|item| table.row(row(item)));
            Ok(())
        };
        paging.run(page, each).await?;
        print(table)
    }
}

impl Mutation {
    /// The id that makes the call safe to repeat.
    pub fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string())
    }

    /// Prints the answer to a call with this request_id, or fails as the call did.
    pub fn report<M: Message>(
        &self,
        format: Format,
        request_id: &str,
        answer: &Answer<'_, M>,
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        if format.json {
            return print_json_of(answer.name, answer.message, request_id);
        }
        print(table())?;
        if self.dry_run {
            eprintln!("dry run: nothing was changed");
        } else if answer.execution.is_some_and(|execution| execution.replayed) {
            eprintln!("this is the first result of request_id {request_id} again: nothing was changed now");
        }
        Ok(())
    }
}

/// The flags with which a command is repeated.
pub fn repeated(request_id: &str) -> String {
    format!("--request-id {request_id}")
}

/// Sends a mutation, and returns its answer. `repeat` are the flags with which repeating it is safe.
pub async fn send<M>(
    repeat: &str,
    call: impl Future<Output = Result<tonic::Response<M>, Status>>,
) -> Result<M, Failure> {
    match call.await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(mutation_failed(&status, repeat)),
    }
}
