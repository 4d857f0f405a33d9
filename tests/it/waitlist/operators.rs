//! What an operator does with the line: makes a party smaller, serves a chosen entry out of turn.

use reservd::rpc::pb::{self, ReservationState, WaitlistEntryState as State};
use tonic::Code;

use super::{cancel, full};
use crate::support::{
    Guarded, STRATEGIES, TestServer, assert_refused, bad_fields, entry_of_user, join, new_id, own_metadata, reserve,
    strict, with,
};

fn amend(event_id: &str, user_id: &str, quantity: i32) -> pb::AmendWaitlistEntryRequest {
    pb::AmendWaitlistEntryRequest {
        event_id: event_id.into(),
        entry: entry_of_user(user_id),
        quantity: Some(quantity),
        ..Default::default()
    }
}

fn promote(event_id: &str, user_id: &str) -> pb::PromoteWaitlistEntryRequest {
    pb::PromoteWaitlistEntryRequest {
        event_id: event_id.into(),
        entry: entry_of_user(user_id),
        reason: "the band".into(),
        ..Default::default()
    }
}

fn close(event_id: &str) -> pb::CloseEventRequest {
    pb::CloseEventRequest { event_id: event_id.into(), ..Default::default() }
}

#[tokio::test]
async fn a_party_that_became_smaller_keeps_its_place() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let (event_id, options) = (strategy.as_str_name(), with(strategy));
        full(&server, event_id, 3, strict()).await;
        server.join(join(event_id, "bob", 3)).await.expect("it is sold out");
        let cid = server.join(join(event_id, "cid", 2)).await.expect("it is sold out");
        let request = pb::AmendWaitlistEntryRequest { options, ..amend(event_id, "bob", 2) };
        let answer = server.waitlist().amend_waitlist_entry(request).await.expect("it waits").into_inner();
        let bob = answer.entry.expect("the entry");
        assert_eq!((bob.quantity, bob.min_quantity, bob.ticket, bob.state()), (2, 2, 3, State::Waiting));
        let stored = server.entry(event_id, "bob").await;
        assert_eq!((stored.entry.as_ref(), stored.position, stored.units_ahead), (Some(&bob), 1, 0));
        assert_eq!(server.entry(event_id, "cid").await.units_ahead, 2);

        let refused = server.waitlist().amend_waitlist_entry(amend(event_id, "bob", 3)).await;
        let refused = assert_refused(refused, Code::FailedPrecondition, "QUANTITY_LIMIT");
        assert_eq!(own_metadata(&refused)["limit"], "2");
        let stale = pb::AmendWaitlistEntryRequest { etag: "w3".into(), ..amend(event_id, "bob", 1) };
        assert_refused(server.waitlist().amend_waitlist_entry(stale).await, Code::Aborted, "ETAG_MISMATCH");
        let nothing = pb::AmendWaitlistEntryRequest { quantity: None, ..amend(event_id, "bob", 1) };
        let nothing = server.waitlist().amend_waitlist_entry(nothing).await.expect_err("it says nothing");
        assert_eq!(bad_fields(&nothing), ["quantity"]);

        // Two units come free; bob, who wants two by now, is the first.
        server.cancel(cancel(event_id, "ann", 2)).await.expect("she has three");
        assert_eq!(server.promoted(event_id).await, ["bob"]);
        // One more is too few for cid, until that party is smaller, too: it is promoted in the same step.
        server.cancel(cancel(event_id, "ann", 1)).await.expect("she has one");
        let request = pb::AmendWaitlistEntryRequest { options, etag: cid.etag, ..amend(event_id, "cid", 1) };
        let answer = server.waitlist().amend_waitlist_entry(request).await.expect("it waits").into_inner();
        assert_eq!(answer.entry.expect("the entry").state(), State::Waiting);
        assert_eq!(server.promoted(event_id).await, ["bob", "cid"]);
        assert_eq!(answer.execution.expect("a report").event_version, server.get_event(event_id).await.version);
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_chosen_entry_is_served_out_of_turn_and_the_history_says_who_did_it_and_why() {
    let server = Guarded::start().await;
    for strategy in STRATEGIES {
        let event_id = strategy.as_str_name();
        let manager = server.caller("mia", &["event.manager"]);
        let event =
            Some(pb::Event { event_id: event_id.into(), capacity: 2, waitlist: Some(strict()), ..Default::default() });
        let create = pb::CreateEventRequest { event, ..Default::default() };
        manager.events().create_event(create).await.expect("it is new");
        let service = server.service("shop");
        let ann = pb::ReserveRequest { quantity: 2, ..reserve(event_id, "ann") };
        service.reservations().reserve(ann).await.expect("there is room");
        for user in ["bob", "cid", "dan"] {
            service.waitlist().join_waitlist(join(event_id, user, 1)).await.expect("it is sold out");
        }
        let request = || pb::PromoteWaitlistEntryRequest { options: with(strategy), ..promote(event_id, "dan") };
        let full = manager.waitlist().promote_waitlist_entry(request()).await;
        assert_refused(full, Code::FailedPrecondition, "SOLD_OUT");
        let forbidden = service.waitlist().promote_waitlist_entry(request()).await;
        assert_refused(forbidden, Code::PermissionDenied, "ROLE_MISSING");
        let silent = pb::PromoteWaitlistEntryRequest { reason: String::new(), ..request() };
        let silent = manager.waitlist().promote_waitlist_entry(silent).await.expect_err("it needs a reason");
        assert_eq!(bad_fields(&silent), ["reason"]);

        // While the event is closed, what comes free is offered to nobody: then the choice is the manager's.
        manager.events().close_event(close(event_id)).await.expect("it is open");
        service.reservations().cancel(cancel(event_id, "ann", 1)).await.expect("she has two");
        let again = pb::PromoteWaitlistEntryRequest { request_id: new_id(), ..request() };
        let answer = manager.waitlist().promote_waitlist_entry(again.clone()).await.expect("one is free").into_inner();
        let offer = answer.reservation.clone().expect("the reservation");
        assert_eq!((offer.user_id.as_str(), offer.state(), offer.quantity), ("dan", ReservationState::Held, 1));
        let replay = manager.waitlist().promote_waitlist_entry(again).await.expect("it was done").into_inner();
        assert_eq!((replay.reservation, replay.current), (Some(offer.clone()), Some(offer)));
        let served = manager.waitlist().promote_waitlist_entry(request()).await;
        assert_refused(served, Code::FailedPrecondition, "NOT_WAITING");

        let list = pb::ListChangesRequest { event_id: event_id.into(), newest_first: true, ..Default::default() };
        let changes = service.feed().list_changes(list).await.expect("it has some").into_inner().changes;
        let change = &changes[0];
        assert_eq!(
            (change.kind(), &*change.reason, &*change.actor),
            (pb::ChangeKind::WaitlistPromoted, "the band", "token:mia")
        );
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn two_operators_serve_two_entries_with_one_free_unit_and_one_succeeds() {
    let server = TestServer::start().await;
    for round in 0..10 {
        let event_id = format!("show-{round}");
        full(&server, &event_id, 1, strict()).await;
        for user in ["bob", "cid"] {
            server.join(join(&event_id, user, 1)).await.expect("it is sold out");
        }
        server.events().close_event(close(&event_id)).await.expect("it is open");
        server.cancel(cancel(&event_id, "ann", 1)).await.expect("it is hers");
        let serve = async |user, strategy| {
            let request = pb::PromoteWaitlistEntryRequest { options: with(strategy), ..promote(&event_id, user) };
            server.waitlist().promote_waitlist_entry(request).await
        };
        let [one, other, _] = STRATEGIES;
        let (bob, cid) = tokio::join!(serve("bob", one), serve("cid", other));
        assert_eq!(usize::from(bob.is_ok()) + usize::from(cid.is_ok()), 1, "{bob:?} {cid:?}");
        assert_refused(bob.and(cid), Code::FailedPrecondition, "SOLD_OUT");
    }
    server.check_and_stop().await;
}
