//! The connection breaks after PostgreSQL has committed and before its answer arrives. Then only a command with a
//! request_id is repeated, and takes effect once; for the others the answer is that the outcome is unknown.

use reservd::rpc::pb::{self, ExecutionStrategy};
use tonic::{Code, Status};

use crate::{
    clients,
    support::{
        Answer, PATIENT, PgProxy, STRATEGIES, Stall, TestDatabase, TestServer, all, assert_refused, eventually,
        of_user, patient_and,
        process::{TempFolder, checkout, finish},
        reserve, with,
    },
};

/// Commands that would have a second effect if they were executed twice.
#[derive(Clone, Copy, Debug)]
enum Command {
    CancelOne,
    Extend,
}
use Command::{CancelOne, Extend};

impl Command {
    async fn send(
        self,
        server: &TestServer,
        user: &str,
        request: &str,
        strategy: ExecutionStrategy,
    ) -> Result<Answer, Status> {
        let (event_id, reservation, options) = ("show".to_owned(), of_user(user), with(strategy));
        let request_id = request.to_owned();
        match self {
            CancelOne => {
                // Without a request_id it needs an etag.
                let found = pb::GetReservationRequest { event_id: event_id.clone(), reservation: reservation.clone() };
                let found = server.reservations().get_reservation(found).await?.into_inner().reservation;
                let etag = if request.is_empty() { found.unwrap_or_default().etag } else { String::new() };
                let more = pb::CancelRequest { quantity: Some(1), etag, ..Default::default() };
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
    assert_refused(answer, Code::Unknown, "OUTCOME_UNKNOWN");
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
    let first =
        server.reserve(pb::ReserveRequest { options: with(ExecutionStrategy::Coalesced), ..reserve("show", "first") });
    // Each call is sent when the calls before it wait for the row, or behind one that does.
    let batch = all(BATCH.into_iter().enumerate().map(async |(place, (user, command, request_id))| {
        server.waiting(1 + place).await;
        command.send(&server, user, request_id, ExecutionStrategy::Coalesced).await
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

/// A Reserve by Python's client with the retry policy of the documentation.
async fn reserve_with_retries(folder: &TempFolder, address: &str, user: &str) -> String {
    let mut client = clients::python(folder, "retry.py", address).await;
    client.args(["show", user]).arg(checkout("docs/service_config.json"));
    let output = finish(client).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    output.out
}

#[tokio::test]
async fn a_client_with_the_service_config_repeats_what_is_unavailable() {
    let (server, proxy) = behind_a_proxy(&[]).await;
    let (folder, address) = (TempFolder::new(), server.app.address.to_string());
    proxy.close();
    proxy.cut().await;
    let refused = "reservd_rpcs_total{code=\"UNAVAILABLE\",method=\"reservd.v1.ReservationService/Reserve\"}";
    let come_back = async {
        eventually("it is refused once", async || server.metric(refused).await >= 1.0).await;
        proxy.open();
    };
    let (told, ()) = tokio::join!(reserve_with_retries(&folder, &address, "ann"), come_back);
    assert_eq!(told, "reserved ann\n");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_client_with_the_service_config_does_not_repeat_what_may_have_been_done() {
    let (server, proxy) = behind_a_proxy(&PATIENT).await;
    let (folder, address) = (TempFolder::new(), server.app.address.to_string());
    let stall = server.stall_commits_of("ann").await;
    let call = reserve_with_retries(&folder, &address, "ann");
    let (told, ()) = tokio::join!(call, lose_the_answer(&server, &proxy, "ann", stall));
    assert_eq!(told, "UNKNOWN OUTCOME_UNKNOWN\n");
    let unknown = "reservd_rpcs_total{code=\"UNKNOWN\",method=\"reservd.v1.ReservationService/Reserve\"}";
    assert_eq!(server.metric(unknown).await, 1.0);
    assert_eq!(server.history("show", Some("ann")).await, ["HELD"]);
    server.check_and_stop().await;
}
