//! The connection breaks after PostgreSQL has committed and before its answer arrives. Then only a command with a
//! request_id is repeated, and takes effect once; for the others the answer is that the outcome is unknown.

use reservd::rpc::pb::{self, Strategy};
use tonic::{Code, Status};

use crate::support::{
    Answer, PATIENT, PgProxy, STRATEGIES, Stall, TestDatabase, TestServer, all, assert_refused, eventually, metadata,
    of_user, patient_and, reserve, with,
};

/// Commands that would have a second effect if they were executed twice.
#[derive(Clone, Copy, Debug)]
enum Command {
    CancelOne,
    Extend,
}
use Command::{CancelOne, Extend};

impl Command {
    async fn send(self, server: &TestServer, user: &str, request: &str, strategy: Strategy) -> Result<Answer, Status> {
        let (event_id, reservation, options) = ("show".to_owned(), of_user(user), with(strategy));
        let request_id = request.to_owned();
        match self {
            CancelOne => {
                let more = pb::CancelRequest { quantity: 1, ..Default::default() };
                server.cancel(pb::CancelRequest { event_id, reservation, request_id, options, ..more }).await
            }
            Extend => {
                let more = pb::ExtendRequest::default();
                server.extend(pb::ExtendRequest { event_id, reservation, request_id, options, ..more }).await
            }
        }
    }

    /// The state and units of a hold after the command has taken effect once.
    fn once(self) -> [&'static str; 2] {
        match self {
            CancelOne => ["HELD", "REDUCED"],
            Extend => ["HELD", "EXTENDED"],
        }
    }
}

/// A service whose connections lead through the proxy, with an event.
async fn behind_a_proxy(settings: &[(&str, &str)]) -> (TestServer, PgProxy) {
    let database = TestDatabase::new().await;
    let proxy = PgProxy::to(&database).await;
    let server = TestServer::on(database, &[settings, &[("database.url", proxy.url())]].concat()).await;
    server.event("show", 100).await;
    (server, proxy)
}

async fn hold(server: &TestServer, user: &str) {
    let wish = pb::ReserveRequest { quantity: 3, ..reserve("show", user) };
    server.reserve(wish).await.expect("there is room");
}

/// Waits for a stalled commit of this user, lets it happen, and cuts the connections before the service gets the
/// answer.
async fn lose_the_answer(server: &TestServer, proxy: &PgProxy, user: &str, stall: Stall) {
    server.commit_is_stalled().await;
    let before = server.history("show", Some(user)).await.len();
    proxy.silence();
    stall.release().await;
    eventually("it is committed", async || server.history("show", Some(user)).await.len() > before).await;
    proxy.cut().await;
}

fn assert_unknown(answer: Result<Answer, Status>) {
    let status = assert_refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
    assert_eq!(metadata(&status).get("outcome").map(String::as_str), Some("unknown"), "{status:?}");
}

fn assert_repeated(answer: Result<Answer, Status>) {
    assert!(answer.expect("it is repeated").execution.replayed, "it finds what was done");
}

/// Loses the answer to each command under each strategy; with a request_id the command must be `repeated`.
async fn lose_each_answer(repeated: bool) {
    let (server, proxy) = behind_a_proxy(&PATIENT).await;
    let mut calls = Vec::new();
    for strategy in STRATEGIES {
        for command in [CancelOne, Extend] {
            let user = format!("{command:?}-{}", strategy.as_str_name());
            hold(&server, &user).await;
            calls.push((user, command, strategy));
        }
    }
    for (user, command, strategy) in calls {
        let stall = server.stall_commits_of(&user).await;
        let request_id = if repeated { user.as_str() } else { "" };
        let call = command.send(&server, &user, request_id, strategy);
        let (answer, ()) = tokio::join!(call, lose_the_answer(&server, &proxy, &user, stall));
        assert_eq!(server.history("show", Some(&user)).await, command.once(), "{user}");
        if repeated { assert_repeated(answer) } else { assert_unknown(answer) }
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_command_without_a_request_id_is_not_repeated_after_an_unknown_outcome() {
    lose_each_answer(false).await;
}

#[tokio::test]
async fn a_command_with_a_request_id_is_repeated_after_an_unknown_outcome() {
    lose_each_answer(true).await;
}

/// A batch forms behind a command that waits for the row.
#[tokio::test]
async fn after_an_unknown_outcome_of_a_batch_only_commands_with_a_request_id_are_repeated() {
    const BATCH: [(&str, Command, &str); 4] =
        [("ann", CancelOne, ""), ("bob", CancelOne, "bob"), ("cid", Extend, ""), ("dan", Extend, "dan")];
    let (server, proxy) = behind_a_proxy(&patient_and(&[("execution.lanes", "1")])).await;
    for (user, ..) in BATCH {
        hold(&server, user).await;
    }
    let stall = server.stall_commits_of("ann").await;
    let row = server.hold_row("show").await;
    let first = server.reserve(pb::ReserveRequest { options: with(Strategy::Coalesced), ..reserve("show", "first") });
    // Each call is sent when the calls before it wait for the row, or behind one that does.
    let batch = all(BATCH.into_iter().enumerate().map(async |(place, (user, command, request_id))| {
        server.waiting(1 + place).await;
        command.send(&server, user, request_id, Strategy::Coalesced).await
    }));
    let lose = async {
        server.waiting(1 + BATCH.len()).await;
        row.release().await;
        lose_the_answer(&server, &proxy, "ann", stall).await;
    };
    let (first, answers, ()) = tokio::join!(first, batch, lose);
    first.expect("there is room");
    for ((user, command, request_id), answer) in BATCH.into_iter().zip(answers) {
        assert_eq!(server.history("show", Some(user)).await, command.once(), "{user}");
        if request_id.is_empty() { assert_unknown(answer) } else { assert_repeated(answer) }
    }
    server.check_and_stop().await;
}
