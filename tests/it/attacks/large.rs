//! Lists and batches: their number at once is limited, and no answer is larger than clients accept.

use std::collections::BTreeMap;

use reservd::rpc::pb::{
    BatchCreateEventsRequest, CreateEventRequest, Event, ListEventsRequest, ListWaitlistRequest,
    waitlist_service_client::WaitlistServiceClient,
};
use sqlx::{Executor, PgConnection};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

use crate::support::{TestServer, eventually, join, reserve, soon, strict};

/// Locks the waitlist against reads until the transaction of this connection ends.
async fn locked_waitlist(server: &TestServer) -> PgConnection {
    let mut sql = server.sql().await;
    sql.execute(sqlx::raw_sql("BEGIN; LOCK TABLE waitlist")).await.expect("it can be locked");
    sql
}

/// Lists the waitlist `count` times at once, on one connection.
fn ask(channel: &Channel, count: usize) -> Vec<JoinHandle<Result<usize, Status>>> {
    let ask_once = |mut client: WaitlistServiceClient<Channel>| async move {
        let request = ListWaitlistRequest { event_id: "e".into(), ..Default::default() };
        Ok(client.list_waitlist(request).await?.into_inner().entries.len())
    };
    (0..count).map(|_| tokio::spawn(ask_once(WaitlistServiceClient::new(channel.clone())))).collect()
}

async fn are_in_state(server: &TestServer, state: &str, count: f64) {
    let sample = format!("reservd_call_queue{{class=\"large\",state=\"{state}\"}}");
    eventually(&format!("{count} are {state}"), async || server.metric(&sample).await == count).await;
}

#[tokio::test]
async fn lists_and_batches_are_bounded_and_do_not_block_other_calls() {
    let server = TestServer::with(&[("server.max_large_responses", "2"), ("server.default_deadline", "60s")]).await;
    server.event_with_waitlist("e", 1, strict()).await;
    server.reservations().reserve(reserve("e", "bob")).await.expect("the place is free");
    server.waitlist().join_waitlist(join("e", "ann", 1)).await.expect("she waits");
    let mut lock = locked_waitlist(&server).await;
    // More calls than connections to the database.
    let mut lists = ask(&server.channel(), 40);
    lists.extend(ask(&server.narrow_channel().await, 1));
    are_in_state(&server, "waiting", 39.0).await;
    soon("others are served", server.get_event("e")).await;
    lock.execute("ROLLBACK").await.expect("it can be unlocked");
    for list in lists {
        assert_eq!(soon("it has its turn", list).await.expect("it ran").expect("it is answered"), 1);
    }
    are_in_state(&server, "in_flight", 0.0).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_queue_and_gets_no_extra_share() {
    let server = TestServer::with(&[("server.max_large_responses", "2"), ("server.default_deadline", "60s")]).await;
    server.event_with_waitlist("e", 0, strict()).await;
    let mut lock = locked_waitlist(&server).await;
    for _ in 0..3 {
        let lists = ask(&server.channel(), 10);
        eventually("they wait", async || {
            server.metric("reservd_call_queue{class=\"large\",state=\"waiting\"}").await >= 8.0
        })
        .await;
        lists.iter().for_each(JoinHandle::abort);
        are_in_state(&server, "waiting", 0.0).await;
        // The work of these calls goes on without their callers.
        are_in_state(&server, "in_flight", 2.0).await;
    }
    lock.execute("ROLLBACK").await.expect("it can be unlocked");
    are_in_state(&server, "in_flight", 0.0).await;
    server.check_and_stop().await;
}

/// The largest labels that an event may have.
fn most_labels() -> BTreeMap<String, String> {
    (0..32).map(|number| (format!("{number:a>63}"), "\u{1f3bb}".repeat(256))).collect()
}

#[tokio::test]
async fn a_page_of_large_events_ends_before_it_is_larger_than_clients_take() {
    let server = TestServer::start().await;
    let named = |number: usize| format!("e-{number:03}");
    for batch in 0..4 {
        let requests = (batch * 25..batch * 25 + 25).map(|number| {
            let event = Event { event_id: named(number), capacity: 1, labels: most_labels(), ..Default::default() };
            CreateEventRequest { event: Some(event), ..Default::default() }
        });
        let request = BatchCreateEventsRequest { requests: requests.collect(), ..Default::default() };
        server.events().batch_create_events(request).await.expect("they are created");
    }
    let (mut request, mut seen, mut pages) = (ListEventsRequest { page_size: 1000, ..Default::default() }, vec![], 0);
    loop {
        // The client accepts 4 MiB, as most do.
        let page = server.events().list_events(request.clone()).await.expect("a page").into_inner();
        seen.extend(page.events.into_iter().map(|event| event.event_id));
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), ((0..100).map(named).collect(), 4));
    server.check_and_stop().await;
}
