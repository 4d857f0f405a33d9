//! Commands over the broker have the effect of the RPC of the same name, exactly once, despite failures.

use lapin::{BasicProperties, types::ShortString};
use reservd::{config::PayloadFormat, rpc::pb};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tonic::Code;

use crate::support::{
    CommandClient, CommandMessage, Proxy, TestBroker, TestServer, all, eventually, metadata, millis, of_user, reason,
    reserve,
};

const FORMATS: [PayloadFormat; 2] = [PayloadFormat::Json, PayloadFormat::Protobuf];

#[tokio::test]
async fn commands_have_the_effects_and_responses_of_the_rpcs() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    let mut client = CommandClient::open(&broker).await;
    for format in FORMATS {
        let event_id = format!("show-{}", format.content_type().replace('/', "-"));
        server.event(&event_id, 3).await;
        let (event, ann) = (|| event_id.clone(), || of_user("ann"));

        let request = pb::ReserveRequest { quantity: 2, hold_ttl: millis(60_000), ..reserve(&event_id, "ann") };
        let reply = client.call(&CommandMessage::new("Reserve", "take", &request, format)).await;
        assert_eq!(
            (reply.kind.as_str(), reply.content_type.as_str()),
            ("reservd.v1.ReserveResponse", format.content_type())
        );
        assert_eq!(reply.done().reservation, server.reservation(&event_id, "ann").await, "as gRPC tells it");
        assert!(!reply.done().execution.replayed);

        let request =
            pb::ExtendRequest { event_id: event(), reservation: ann(), ttl: millis(120_000), ..Default::default() };
        let extended = client.call(&CommandMessage::new("Extend", "longer", &request, format)).await.done();
        assert_eq!(extended.reservation.extension_count, 1);
        let request = pb::ConfirmRequest { event_id: event(), reservation: ann(), ..Default::default() };
        let confirmed = client.call(&CommandMessage::new("Confirm", "pay", &request, format)).await.done();
        assert_eq!(confirmed.reservation.state(), pb::ReservationState::Confirmed);

        // A refusal is the same Status, with the same details.
        let request = pb::ReserveRequest { quantity: 2, ..reserve(&event_id, "bob") };
        let refused = client.call(&CommandMessage::new("Reserve", "more", &request, format)).await.refused();
        let by_grpc = server.reserve(request).await.expect_err("it is sold out");
        assert_eq!((refused.code(), refused.message()), (by_grpc.code(), by_grpc.message()));
        assert_eq!((reason(&refused), metadata(&refused)), ("SOLD_OUT".to_owned(), metadata(&by_grpc)));
        assert_eq!(metadata(&refused)["available"], "1");

        let request =
            pb::CancelRequest { event_id: event(), reservation: ann(), reason: "ill".into(), ..Default::default() };
        let cancelled = client.call(&CommandMessage::new("Cancel", "give", &request, format)).await.done();
        assert_eq!(cancelled.reservation, server.reservation(&event_id, "ann").await);
    }
    for (command, outcome, count) in [("Reserve", "ok", 2.0), ("Reserve", "SOLD_OUT", 2.0), ("Cancel", "ok", 2.0)] {
        let sample = format!("reservd_broker_commands_total{{command=\"{command}\",outcome=\"{outcome}\"}}");
        assert_eq!(server.metric(&sample).await, count, "{sample}");
    }
    assert_eq!(client.dead_letter().await, None, "a refusal gets a reply");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repeated_command_has_no_second_effect() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    let twin = server.twin_with(&broker.settings()).await;
    let mut client = CommandClient::open(&broker).await;
    server.event("show", 100).await;
    let order = |n: usize| {
        CommandMessage::new(
            "Reserve",
            &format!("order-{n}"),
            &reserve("show", &format!("user-{n}")),
            PayloadFormat::Json,
        )
    };
    for copy in 0..30 {
        client.send(&order(copy % 10)).await;
    }
    let mut replies = Vec::new();
    for _ in 0..30 {
        replies.push(client.reply().await);
    }
    for n in 0..10 {
        let mut told: Vec<_> = replies
            .iter()
            .filter(|reply| reply.correlation_id == format!("about order-{n}"))
            .map(super::super::support::Reply::done)
            .collect();
        assert_eq!(told.len(), 3);
        told.sort_by_key(|answer| answer.execution.replayed);
        assert_eq!(told.iter().map(|it| it.execution.replayed).collect::<Vec<_>>(), [false, true, true]);
        assert!(told.iter().all(|answer| answer.reservation == told[0].reservation), "{told:?}");
    }
    assert_eq!(server.get_event("show").await.counts.unwrap_or_default().held, 10);
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_command_is_acknowledged_only_when_its_commit_is_known() {
    let broker = TestBroker::new().await;
    let proxy = Proxy::to(&broker.address()).await;
    let server = TestServer::with(&broker.through(proxy.address).settings()).await;
    let mut client = CommandClient::open(&broker).await;
    server.event("show", 5).await;
    let commits = server.hold_commits().await;
    client.send(&CommandMessage::new("Reserve", "take", &reserve("show", "ann"), PayloadFormat::Json)).await;
    server.waiting(1).await;
    assert_eq!(client.ready().await, 0, "the server has it");
    // The server loses the broker before it knows the outcome, so the broker still has the command.
    proxy.cut();
    eventually("the command is in the queue again", async || client.ready().await == 1).await;
    commits.release().await;
    eventually("it is committed all the same", async || {
        server.get_event("show").await.counts.unwrap_or_default().held == 1
    })
    .await;
    proxy.open();
    let told = client.reply().await.done();
    assert!(told.execution.replayed, "the second delivery tells what the first has done");
    assert_eq!(told.reservation, server.reservation("show", "ann").await);
    eventually("it is acknowledged", async || client.ready().await == 0).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn malformed_commands_are_dead_letters_with_the_reason() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    let mut client = CommandClient::open(&broker).await;
    server.event("show", 5).await;
    let good = br#"{"eventId": "show", "userId": "ann", "quantity": 1}"#.as_slice();
    let whole = || {
        BasicProperties::default()
            .with_type("reservd.v1.ReserveRequest".into())
            .with_content_type("application/json".into())
            .with_message_id("m-1".into())
    };
    let without_id = BasicProperties::default()
        .with_type("reservd.v1.ReserveRequest".into())
        .with_content_type("application/json".into());
    let spaced = whole().with_message_id("two words".into());
    for (properties, body, why, about) in [
        (whole().with_type("reservd.v1.AmendRequest".into()), good, "MESSAGE_MALFORMED", "type"),
        (BasicProperties::default(), good, "MESSAGE_MALFORMED", "type"),
        (whole().with_content_type("text/plain".into()), good, "FIELD_INVALID", "content_type"),
        (without_id, good, "FIELD_INVALID", "message_id"),
        (spaced, good, "FIELD_INVALID", "message_id"),
        (whole(), b"{".as_slice(), "MESSAGE_MALFORMED", "body"),
        (whole(), br#"{"eventId": "show", "users": 1}"#.as_slice(), "MESSAGE_MALFORMED", "body"),
        (whole().with_content_type("application/protobuf".into()), good, "MESSAGE_MALFORMED", "body"),
        (whole(), br#"{"eventId": "show", "userId": "a b", "quantity": 0}"#.as_slice(), "FIELD_INVALID", "user_id"),
        (whole(), br#"{"eventId": "show", "requestId": "another"}"#.as_slice(), "FIELD_INVALID", "request_id"),
    ] {
        client.send_raw(properties.clone(), body).await;
        let mut found = None;
        eventually("it is a dead letter", async || {
            found = client.dead_letter().await;
            found.is_some()
        })
        .await;
        let (kept, [reason, error, queue]) = found.expect("it is a dead letter");
        assert_eq!((kept.as_slice(), reason.as_str()), (body, why), "{error}");
        assert!(error.contains(about), "{error}");
        assert_eq!(queue, broker.commands);

        // The sender gets a reply too.
        let order = |id: &ShortString| id.to_string();
        let id = properties.message_id().as_ref().map(order).unwrap_or_default();
        let asking = properties.with_reply_to(format!("replies-{}", broker.commands).into());
        client.send_raw(asking, body).await;
        let reply = client.reply().await;
        let status = reply.refused();
        assert_eq!((status.code(), crate::support::reason(&status)), (Code::InvalidArgument, reason));
        assert_eq!(reply.correlation_id, id, "the message's own id, where there is no correlation_id");
        eventually("it is a dead letter again", async || client.dead_letter().await.is_some()).await;
    }
    assert_eq!(client.ready().await, 0);
    assert_eq!(server.get_event("show").await.version, 1, "nothing was done");
    server.check_and_stop().await;
}

/// Asserts that a command with this `reply_to` is a dead letter, and is not executed.
async fn is_refused(client: &CommandClient, reply_to: &str) {
    let body = PayloadFormat::Json.write("reservd.v1.ReserveRequest", &reserve("show", "ann"));
    let properties = BasicProperties::default()
        .with_type("Reserve".into())
        .with_content_type("application/json".into())
        .with_message_id("m".into())
        .with_reply_to(reply_to.into());
    client.send_raw(properties, &body).await;
    let mut found = None;
    eventually("it is a dead letter", async || {
        found = client.dead_letter().await;
        found.is_some()
    })
    .await;
    let (kept, [reason, error, _]) = found.expect("it is a dead letter");
    assert_eq!((kept, reason.as_str()), (body, "FIELD_INVALID"), "{reply_to}");
    assert!(error.contains("reply_to"), "{error}");
}

#[tokio::test]
async fn replies_do_not_go_to_reservds_own_queues() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    let client = CommandClient::open(&broker).await;
    server.event("show", 3).await;
    for own in [&broker.commands, "reservd.sign_outs", &format!("{}.dead", broker.commands), "reservd.sign_outs.dead"] {
        is_refused(&client, own).await;
    }
    assert_eq!(server.get_event("show").await.version, 1, "nothing was done");
    server.check_and_stop().await;
}

#[tokio::test]
async fn with_a_prefix_replies_go_only_to_queues_that_have_it() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&[&broker.settings()[..], &[("broker.reply_prefix", "replies-")]].concat()).await;
    let mut client = CommandClient::open(&broker).await;
    server.event("show", 3).await;
    for other in ["orders", "replies", "amq.rabbitmq"] {
        is_refused(&client, other).await;
    }
    let command = CommandMessage::new("Reserve", "take", &reserve("show", "ann"), PayloadFormat::Json);
    client.call(&command).await.done();
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_outage_of_the_database_delays_commands_and_loses_none() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&[&broker.settings()[..], &[("broker.prefetch", "4")]].concat()).await;
    let mut client = CommandClient::open(&broker).await;
    server.event("show", 100).await;
    let mut admin = PgConnection::connect_with(&server.database.options.clone().database("postgres"))
        .await
        .expect("PostgreSQL can be connected to");
    let name = server.database.options.get_database().expect("a name").to_owned();
    let mut sql = server.sql().await;
    let gone = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    admin.execute(AssertSqlSafe(gone)).await.expect("it can be closed");
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name = 'reservd'";
    sql.execute(terminate).await.expect("connections can be killed");
    let orders: Vec<_> = (0..12)
        .map(|n| {
            CommandMessage::new("Reserve", &format!("o-{n}"), &reserve("show", &format!("u-{n}")), PayloadFormat::Json)
        })
        .collect();
    all(orders.iter().map(|order| client.send(order))).await;
    let sample = "reservd_broker_commands_total{command=\"Reserve\",outcome=\"DATABASE_UNAVAILABLE\"}";
    eventually("some were tried twice", async || server.metric(sample).await > 8.0).await;
    assert_eq!(client.ready().await, 8, "the prefetch limits the delivered commands");

    let back = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    admin.execute(AssertSqlSafe(back)).await.expect("it can be opened");
    for _ in 0..12 {
        client.reply().await.done();
    }
    assert_eq!(server.get_event("show").await.counts.unwrap_or_default().held, 12);
    assert_eq!(client.dead_letter().await, None);
    server.check_and_stop().await;
}
