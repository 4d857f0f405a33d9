//! The life of a reservation, step by step.

use reservd::rpc::pb::{self, ReservationState};
use tonic::Code;

use crate::support::{STRATEGIES, TestServer, assert_refused, metadata, millis, of_user, reserve, with};

#[tokio::test]
async fn a_reservation_lives_from_hold_to_cancellation() {
    let server = TestServer::start().await;
    for strategy in STRATEGIES {
        let event_id = format!("walk-{}", strategy.as_str_name());
        server.event(&event_id, 5).await;
        let mut client = server.reservations();

        let held =
            client.reserve(pb::ReserveRequest { quantity: 3, options: with(strategy), ..reserve(&event_id, "ann") });
        let held = held.await.expect("there is room").into_inner();
        let execution = held.execution.expect("a mutation tells how it was carried out");
        assert_eq!(execution.strategy(), strategy);
        assert_eq!((execution.attempt_count, execution.event_version, execution.replayed), (1, 2, false));
        let held = held.reservation.expect("the reservation");
        assert_eq!((held.state(), held.quantity), (ReservationState::Held, 3));

        let extended = client.extend(pb::ExtendRequest {
            event_id: event_id.clone(),
            reservation: of_user("ann"),
            ttl: millis(3_000_000),
            options: with(strategy),
            ..Default::default()
        });
        let extended = extended.await.expect("extended").into_inner().reservation.expect("the reservation");
        assert_eq!(extended.extension_count, 1);
        assert!(extended.expire_time.map(|t| t.seconds) > held.expire_time.map(|t| t.seconds));

        let amended = client.amend(pb::AmendRequest {
            event_id: event_id.clone(),
            reservation: of_user("ann"),
            quantity: Some(5),
            options: with(strategy),
            ..Default::default()
        });
        assert_eq!(amended.await.expect("amended").into_inner().reservation.expect("it").quantity, 5);
        let full = assert_refused(
            client.reserve(pb::ReserveRequest { options: with(strategy), ..reserve(&event_id, "bob") }).await,
            Code::FailedPrecondition,
            "SOLD_OUT",
        );
        assert_eq!(metadata(&full)["available"], "0");

        let confirmed = client.confirm(pb::ConfirmRequest {
            event_id: event_id.clone(),
            reservation: of_user("ann"),
            quantity: Some(2),
            options: with(strategy),
            ..Default::default()
        });
        let confirmed = confirmed.await.expect("confirmed").into_inner().reservation.expect("it");
        assert_eq!((confirmed.state(), confirmed.quantity), (ReservationState::Confirmed, 2));
        assert_eq!(server.get_event(&event_id).await.counts.unwrap_or_default().available, 3);

        let cancelled = client.cancel(pb::CancelRequest {
            event_id: event_id.clone(),
            reservation: of_user("ann"),
            reason: "changed my mind".into(),
            options: with(strategy),
            ..Default::default()
        });
        let cancelled = cancelled.await.expect("cancelled").into_inner().reservation.expect("it");
        assert_eq!(cancelled.state(), ReservationState::Cancelled);
        assert_eq!(server.get_event(&event_id).await.counts.unwrap_or_default().available, 5);
        client.reserve(reserve(&event_id, "ann")).await.expect("after a cancellation one may reserve again");
    }
    server.check_and_stop().await;
}
