//! What a reused request_id tells of its first use.

use super::*;
use crate::domain::{ids::Fingerprint, refusal::FirstUse};

#[test]
fn a_reused_request_id_tells_its_first_use_but_no_reservation_to_who_may_not_see_it() {
    let mut world = World::new(2, Policy::default());
    let id = ReservationId(Uuid::from_u128(7));
    let wish = |quantity| {
        let (mode, labels) = (ReserveMode::Hold(None), Labels::default());
        Action::Reserve(Reserve { id, user_id: user(1), quantity, mode, labels })
    };
    let numbered = |action, print: u8| {
        let mut command = command(action, Some(3));
        command.request.as_mut().expect("it has one").fingerprint = Fingerprint([print; 16]);
        command
    };
    world.carry_out(&numbered(wish(1), 1), at(5)).expect("there is room");
    let first = |reservation_id| {
        let first = FirstUse { rpc: Some("Reserve"), time: at(5), reservation_id, entry_id: None };
        Err(Refusal::RequestIdReused(Box::new(first)))
    };
    assert_eq!(world.carry_out(&numbered(wish(2), 2), at(6)), first(Some(id)));
    assert_eq!(world.carry_out(&numbered(Action::CloseEvent, 2), at(6)), first(None), "who manages events");
    let mut of_another = numbered(wish(2), 2);
    of_another.caller.only = Some(user(2));
    assert_eq!(world.carry_out(&of_another, at(6)), first(None));
}
