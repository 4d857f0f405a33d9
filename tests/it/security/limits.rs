//! The limits of one caller.

use reservd::rpc::pb;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::support::{
    Client, Guarded, TestServer, all, assert_refused, eventually, metadata, of_user, reserve, sorted,
};

async fn ask(client: &Client) -> Result<(), Status> {
    client.events().list_events(pb::ListEventsRequest::default()).await.map(drop)
}

#[tokio::test]
async fn the_rate_limit_of_a_principal_affects_no_other() {
    let guarded = Guarded::with(&[("limits.principal_rate", "1"), ("limits.principal_burst", "5")]).await;
    let (shop, desk) = (guarded.service("shop"), guarded.service("desk"));
    let (good, refused) = sorted(all((0..40).map(|_| ask(&shop))).await);
    assert!((5..40).contains(&good.len()), "{} passed", good.len());
    let status = assert_refused(Err::<(), _>(refused[0].clone()), Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(metadata(&status)["of"], "principal");
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("when to come again");
    assert!(!wait.is_zero() && wait.as_secs() < 60, "{wait:?}");
    // Another token of the same principal shares its limit.
    assert!(ask(&guarded.caller("shop", &["service", "reader"])).await.is_err(), "one bucket for all its tokens");
    ask(&desk).await.expect("another has a bucket of its own");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn the_rate_limit_of_an_address_does_not_affect_its_health_checks() {
    let server = TestServer::start().await;
    let limited = server.twin_with(&[("limits.address_rate", "1"), ("limits.address_burst", "5")]).await;
    let list = || async { limited.events().list_events(pb::ListEventsRequest::default()).await };
    let (good, refused) = sorted(all((0..40).map(|_| list())).await);
    assert!((5..40).contains(&good.len()), "{} passed", good.len());
    let status = assert_refused(Err::<(), _>(refused[0].clone()), Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(metadata(&status)["of"], "address");
    let mut health = HealthClient::new(limited.channel());
    health.check(HealthCheckRequest::default()).await.expect("health checks have a bucket of their own");
    let checks =
        (0..40).map(|_| health.clone()).map(async |mut health| health.check(HealthCheckRequest::default()).await);
    let (good, refused) = sorted(all(checks).await);
    assert!((4..40).contains(&good.len()), "{} passed", good.len());
    assert_refused(Err::<(), _>(refused[0].clone()), Code::ResourceExhausted, "RATE_LIMITED");
    let watch = health.watch(HealthCheckRequest::default()).await;
    assert_refused(watch.map(drop), Code::ResourceExhausted, "RATE_LIMITED");
    limited.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_few_clients_can_not_take_every_health_watch() {
    let server = TestServer::start().await;
    let (mut clients, mut watches) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut health = HealthClient::new(server.narrow_channel().await);
        for _ in 0..500 {
            match health.watch(HealthCheckRequest::default()).await {
                Ok(watch) => watches.push(watch),
                Err(status) => drop(assert_refused(Err::<(), _>(status), Code::ResourceExhausted, "OVERLOADED")),
            }
        }
        // Its connection stays open.
        clients.push(health);
    }
    let mut honest = HealthClient::new(server.narrow_channel().await);
    let watch = honest.watch(HealthCheckRequest::default()).await.expect("there is room for others");
    let first = watch.into_inner().message().await.expect("a status").expect("comes first");
    assert_eq!(first.status(), ServingStatus::Serving);
    assert!(watches.len() < 100, "{} open", watches.len());
    server.check_and_stop().await;
}

#[tokio::test]
async fn guessing_tokens_is_limited_by_address() {
    let guarded = Guarded::with(&[("limits.address_rate", "1"), ("limits.address_burst", "5")]).await;
    let guesses = (0..40).map(|number| guarded.with_token(&format!("guess.{number}.guess")));
    let (_, refused) = sorted(all(guesses.map(|client| async move { ask(&client).await })).await);
    let limited = refused.iter().filter(|status| status.code() == Code::ResourceExhausted).count();
    assert!(limited > 20, "{limited} of {}", refused.len());
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn the_streams_of_a_principal_are_limited() {
    let guarded = Guarded::with(&[("limits.watches_per_principal", "1")]).await;
    let client = guarded.caller("root", &["admin"]);
    let long =
        pb::diagnostics::RunConcurrencyTestRequest { operation_count: 100_000, concurrency: 2, ..Default::default() };
    let stream = client.diagnostics().run_concurrency_test(long).await.expect("the first").into_inner();
    let second = client.diagnostics().run_concurrency_test(long).await;
    let status = assert_refused(second.map(drop), Code::ResourceExhausted, "WATCH_LIMIT");
    assert_eq!(metadata(&status)["limit"], "1");
    drop(stream);
    let tiny = pb::diagnostics::RunConcurrencyTestRequest { operation_count: 1, ..Default::default() };
    eventually("its place is free again", async || client.diagnostics().run_concurrency_test(tiny).await.is_ok()).await;
    guarded.check_and_stop().await;
}

async fn server_with_events(settings: &[(&str, &str)], events: usize) -> TestServer {
    let server = TestServer::with(settings).await;
    for number in 0..events {
        server.event(&format!("event-{number}"), 10).await;
    }
    server
}

#[tokio::test]
async fn the_holds_of_a_user_are_limited_over_all_events() {
    let server = server_with_events(&[("limits.live_holds_per_user", "2")], 6).await;
    let hold = |number: usize, user: &str| pb::ReserveRequest {
        request_id: format!("{user}-{number}"),
        ..reserve(&format!("event-{number}"), user)
    };
    let first = server.reserve(hold(0, "ann")).await.expect("the first");
    server.reserve(hold(1, "ann")).await.expect("the second");
    let status = assert_refused(server.reserve(hold(2, "ann")).await, Code::FailedPrecondition, "HOLD_LIMIT");
    assert_eq!(metadata(&status)["limit"], "2");
    server.reserve(hold(2, "bob")).await.expect("another user");
    // A repeated request gets its response, and a user with a reservation gets ALREADY_RESERVED.
    let again = server.reserve(hold(0, "ann")).await.expect("answered again");
    assert!(again.execution.replayed && again.reservation == first.reservation);
    let twice = server.reserve(reserve("event-0", "ann")).await;
    assert_refused(twice, Code::AlreadyExists, "ALREADY_RESERVED");
    // Confirmed, cancelled and expired reservations do not count.
    server.reserve(pb::ReserveRequest { confirm: true, ..hold(3, "ann") }).await.expect("no hold");
    let confirm = pb::ConfirmRequest { event_id: "event-0".into(), reservation: of_user("ann"), ..Default::default() };
    server.confirm(confirm).await.expect("confirmed");
    server.reserve(hold(2, "ann")).await.expect("room for one");
    server.lapse_holds("event-1").await;
    server.reserve(hold(4, "ann")).await.expect("room for one");
    assert_refused(server.reserve(hold(5, "ann")).await, Code::FailedPrecondition, "HOLD_LIMIT");
    server.check_and_stop().await;
}

#[tokio::test]
async fn concurrent_holds_of_a_user_stay_within_the_limit() {
    for strategy in crate::support::STRATEGIES {
        let server = server_with_events(&[("limits.live_holds_per_user", "3")], 10).await;
        let wishes = (0..10).map(|number| {
            server.reserve(pb::ReserveRequest {
                options: crate::support::with(strategy),
                ..reserve(&format!("event-{number}"), "ann")
            })
        });
        let (held, refused) = sorted(all(wishes).await);
        assert_eq!((held.len(), refused.len()), (3, 7), "{refused:?}");
        for status in refused {
            assert_refused(Err::<(), _>(status), Code::FailedPrecondition, "HOLD_LIMIT");
        }
        server.check_and_stop().await;
    }
}
