//! The life of an entry, step by step.

use std::collections::BTreeMap;

use reservd::rpc::pb::{self, ReservationState, WaitlistEntryState as State};
use tonic::Code;

use super::{cancel, full, leave};
use crate::support::{
    STRATEGIES, TestServer, all, assert_refused, entry_of_user, eventually, join, millis, of_user, reserve, strict,
    with,
};

#[tokio::test]
async fn an_entry_lives_from_join_to_a_confirmed_reservation() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        full(&server, event_id, 3, pb::WaitlistPolicy { offer_ttl: millis(90_000), ..strict() }).await;
        let labels = BTreeMap::from([("order".to_owned(), "7".to_owned())]);
        let request = pb::JoinWaitlistRequest { labels: labels.clone(), options, ..join(event_id, "bob", 2) };
        let joined = server.join(request).await.expect("it is sold out");
        server.join(pb::JoinWaitlistRequest { options, ..join(event_id, "cid", 1) }).await.expect("it is sold out");
        assert_eq!((joined.state(), joined.quantity, joined.min_quantity), (State::Waiting, 2, 2));
        assert_eq!((joined.ticket, joined.version, &*joined.etag), (3, 3, "w3"));
        assert_eq!(server.get_event(event_id).await.counts.unwrap_or_default().waiting, 2);
        let bob = server.entry(event_id, "bob").await;
        assert_eq!((bob.entry.as_ref(), bob.position, bob.units_ahead), (Some(&joined), 1, 0));
        let cid = server.entry(event_id, "cid").await;
        assert_eq!((cid.position, cid.units_ahead), (2, 2));

        server.cancel(pb::CancelRequest { options, ..cancel(event_id, "ann", 2) }).await.expect("she has three");
        let offer = server.reservation(event_id, "bob").await;
        assert_eq!((offer.state(), offer.quantity, &offer.labels), (ReservationState::Held, 2, &labels));
        assert!(offer.from_waitlist && offer.reservation_id == joined.entry_id, "{offer:?}");
        let ttl = offer.expire_time.expect("a hold lapses").seconds - offer.create_time.expect("a time").seconds;
        assert!((89..=91).contains(&ttl), "the offer's own time: {ttl} s");
        let bob = server.entry(event_id, "bob").await;
        assert_eq!((bob.entry.map(|entry| entry.state()), bob.position), (Some(State::Promoted), 0));
        assert_eq!(server.entry(event_id, "cid").await.position, 1);

        let confirm = pb::ConfirmRequest {
            event_id: event_id.into(),
            reservation: of_user("bob"),
            options,
            ..Default::default()
        };
        let confirmed = server.confirm(confirm).await.expect("it is held").reservation;
        assert!(confirmed.from_waitlist && confirmed.state() == ReservationState::Confirmed);
        let history = server.history(event_id, Some("bob")).await;
        assert_eq!(history, ["WAITLIST_JOINED", "WAITLIST_PROMOTED", "CONFIRMED"], "one history of one id");

        let left = server.leave(pb::LeaveWaitlistRequest { options, ..leave(event_id, "cid") }).await;
        assert_eq!(left.expect("it waits").state(), State::Left);
        assert_eq!(server.get_event(event_id).await.counts.unwrap_or_default().waiting, 0);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_position_is_exact_up_to_a_thousand_entries_ahead() {
    let server = TestServer::start().await;
    full(&server, "e", 1, strict()).await;
    let joined = all((0..1_003).map(|n| server.join(join("e", &format!("user-{n}"), 1)))).await;
    assert!(joined.iter().all(Result::is_ok), "it is sold out");
    let in_line: Vec<String> = sqlx::query_scalar("SELECT user_id FROM waitlist ORDER BY ticket")
        .fetch_all(&mut server.sql().await)
        .await
        .expect("the line can be read");
    for (ahead, position, units_ahead, is_lower_bound) in [
        (0, 1, 0, false),
        (999, 1000, 999, false),
        (1000, 1001, 1000, false),
        (1001, 1002, 1001, true),
        (1002, 1002, 1001, true),
    ] {
        let entry = server.entry("e", &in_line[ahead]).await;
        let told = (entry.position, entry.units_ahead, entry.position_is_lower_bound);
        assert_eq!(told, (position, units_ahead, is_lower_bound), "{ahead} ahead");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_offer_that_lapses_goes_to_the_next() {
    let server = TestServer::start().await;
    full(&server, "e", 1, pb::WaitlistPolicy { offer_ttl: millis(100), ..strict() }).await;
    for user in ["bob", "cid", "dan"] {
        server.join(join("e", user, 1)).await.expect("it is sold out");
    }
    server.cancel(cancel("e", "ann", 0)).await.expect("it is hers");
    eventually("everybody had an offer", async || server.history("e", Some("dan")).await.len() == 3).await;
    assert_eq!(server.promoted("e").await, ["bob", "cid", "dan"]);
    for user in ["bob", "cid", "dan"] {
        let history = server.history("e", Some(user)).await;
        assert_eq!(history, ["WAITLIST_JOINED", "WAITLIST_PROMOTED", "EXPIRED"]);
    }
    assert_eq!(server.get_event("e").await.counts.unwrap_or_default().available, 1);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_repeated_join_returns_its_first_answer_even_after_promotion() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        full(&server, event_id, 1, strict()).await;
        let request = pb::JoinWaitlistRequest {
            request_id: "j".into(),
            min_quantity: Some(1),
            options: with(strategy),
            ..join(event_id, "bob", 2)
        };
        let first = server.join(request.clone()).await.expect("it is sold out");
        server.cancel(cancel(event_id, "ann", 0)).await.expect("it is hers");
        let again = server.waitlist().join_waitlist(request.clone()).await.expect("it was done").into_inner();
        assert_eq!(again.entry.as_ref(), Some(&first));
        assert!(again.execution.expect("a report").replayed);
        let other = pb::JoinWaitlistRequest { quantity: 1, ..request };
        assert_refused(server.join(other).await, Code::FailedPrecondition, "REQUEST_ID_REUSED");

        let request = pb::LeaveWaitlistRequest { request_id: "l".into(), ..leave(event_id, "cid") };
        server.join(join(event_id, "cid", 1)).await.expect("it is sold out");
        let first = server.leave(request.clone()).await.expect("it waits");
        server.join(join(event_id, "cid", 1)).await.expect("one may join again");
        assert_eq!(server.leave(request).await.expect("it was done"), first);
        assert_eq!(server.entry(event_id, "cid").await.position, 1, "the second entry is another one");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn validate_only_answers_and_changes_nothing() {
    let server = TestServer::start().await;
    full(&server, "e", 1, strict()).await;
    let version = server.get_event("e").await.version;
    let request = pb::JoinWaitlistRequest { validate_only: true, ..join("e", "bob", 1) };
    assert_eq!(server.join(request.clone()).await.expect("it is sold out").state(), State::Waiting);
    assert_eq!(
        (server.get_event("e").await.version, server.get_event("e").await.counts.unwrap_or_default().waiting),
        (version, 0)
    );
    server.join(join("e", "bob", 1)).await.expect("it is sold out");
    assert_refused(server.join(request).await, Code::AlreadyExists, "ALREADY_WAITING");
    let request = pb::LeaveWaitlistRequest { validate_only: true, ..leave("e", "bob") };
    assert_eq!(server.leave(request).await.expect("it waits").state(), State::Left);
    let request = pb::CancelRequest { validate_only: true, ..cancel("e", "ann", 0) };
    server.cancel(request).await.expect("it is hers");
    assert_eq!(server.entry("e", "bob").await.position, 1);
    server.check_and_stop().await;
}

#[tokio::test]
async fn entries_are_listed_page_by_page_in_the_order_of_the_waitlist() {
    let server = TestServer::start().await;
    for event_id in ["a", "b"] {
        full(&server, event_id, 1, strict()).await;
        for user in ["bob", "cid", "dan", "eve", "fay"] {
            server.join(join(event_id, user, 1)).await.expect("it is sold out");
        }
        server.leave(leave(event_id, "cid")).await.expect("it waits");
    }
    let list = async |filter: pb::ListWaitlistRequest| {
        let (mut users, mut request) = (Vec::new(), filter);
        loop {
            let page = server.waitlist().list_waitlist(request.clone()).await.expect("a page").into_inner();
            users.extend(page.entries.into_iter().map(|entry| format!("{}/{}", entry.event_id, entry.user_id)));
            assert!(users.len() <= 20, "no end: {users:?}");
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return users;
            }
        }
    };
    let of = |event_id: &str, user_id: &str| pb::ListWaitlistRequest {
        event_id: event_id.into(),
        user_id: user_id.into(),
        page_size: 2,
        ..Default::default()
    };
    assert_eq!(list(of("a", "")).await, ["a/bob", "a/cid", "a/dan", "a/eve", "a/fay"]);
    let waiting = pb::ListWaitlistRequest { states: vec![State::Waiting.into()], ..of("b", "") };
    assert_eq!(list(waiting).await, ["b/bob", "b/dan", "b/eve", "b/fay"]);
    let ended = vec![State::Left.into(), State::Promoted.into()];
    assert_eq!(list(pb::ListWaitlistRequest { states: ended, ..of("", "cid") }).await, ["a/cid", "b/cid"]);
    assert_eq!(list(of("b", "eve")).await, ["b/eve"]);

    let page = server.waitlist().list_waitlist(of("a", "")).await.expect("a page").into_inner();
    let other = pb::ListWaitlistRequest { page_token: page.next_page_token, ..of("b", "") };
    assert_refused(server.waitlist().list_waitlist(other).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    server.check_and_stop().await;
}

#[tokio::test]
async fn ended_entries_are_kept_as_long_as_changes() {
    let server = TestServer::with(&[("retention.changes", "24h")]).await;
    full(&server, "e", 1, strict()).await;
    for user in ["old", "young", "waiting"] {
        server.join(join("e", user, 1)).await.expect("it is sold out");
    }
    server.leave(leave("e", "old")).await.expect("it waits");
    server.leave(leave("e", "young")).await.expect("it waits");
    let age = "UPDATE waitlist SET update_time = update_time - interval '25 hours' WHERE user_id <> 'young'";
    sqlx::query(age).execute(&mut server.sql().await).await.expect("entries can be made old");
    // A server deletes old entries when it starts.
    let twin = server.twin_with(&[("retention.changes", "24h")]).await;
    let get = async |user: &str| {
        let request = pb::GetWaitlistEntryRequest { event_id: "e".into(), entry: entry_of_user(user) };
        server.waitlist().get_waitlist_entry(request).await
    };
    eventually("the old entry is deleted", async || get("old").await.is_err()).await;
    assert_refused(get("old").await, Code::NotFound, "WAITLIST_ENTRY_NOT_FOUND");
    get("young").await.expect("it is kept");
    assert_eq!(get("waiting").await.expect("it waits").into_inner().position, 1, "however long");
    twin.app.stop().await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_without_a_waitlist_takes_no_joins() {
    let server = TestServer::start().await;
    let event = server.event("e", 1).await;
    assert_eq!((event.waitlist, event.counts.unwrap_or_default().waiting), (None, 0));
    server.reserve(reserve("e", "ann")).await.expect("there is room");
    assert_refused(server.reserve(reserve("e", "bob")).await, Code::FailedPrecondition, "SOLD_OUT");
    assert_refused(server.join(join("e", "bob", 1)).await, Code::FailedPrecondition, "WAITLIST_CLOSED");
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_entry_that_needs_more_than_a_lowered_max_quantity_ends() {
    let server = TestServer::start().await;
    full(&server, "e", 9, strict()).await;
    server.join(join("e", "large", 5)).await.expect("it is sold out");
    server
        .join(pb::JoinWaitlistRequest { min_quantity: Some(1), ..join("e", "modest", 5) })
        .await
        .expect("others wait");
    server.join(join("e", "small", 2)).await.expect("others wait");
    let limits = Some(pb::EventLimits { max_quantity: Some(2), ..Default::default() });
    let event = Some(pb::Event { event_id: "e".into(), limits, ..Default::default() });
    server
        .events()
        .update_event(pb::UpdateEventRequest { event, ..Default::default() })
        .await
        .expect("it can be lowered");
    let state = async |user: &str| server.entry("e", user).await.entry.expect("it stays").state();
    assert_eq!(
        (state("large").await, state("modest").await, state("small").await),
        (State::Ended, State::Waiting, State::Waiting)
    );
    let kinds = "SELECT kind FROM changes WHERE event_id = 'e' ORDER BY version DESC LIMIT 2";
    let kinds: Vec<String> = sqlx::query_scalar(kinds).fetch_all(&mut server.sql().await).await.expect("a history");
    assert_eq!(kinds, ["EVENT_UPDATED", "WAITLIST_ENDED"]);

    server.cancel(cancel("e", "ann", 5)).await.expect("it is live");
    assert_eq!((state("modest").await, state("small").await), (State::Promoted, State::Promoted));
    assert_eq!(server.reservation("e", "modest").await.quantity, 2, "no more than the limit");
    server.check_and_stop().await;
}
