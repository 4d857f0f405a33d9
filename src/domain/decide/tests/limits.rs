//! The limits of an event: on holds, on extensions, on units; and when its booking closes.

use super::*;
use crate::domain::{
    booking_close::BookingClose,
    change::ChangeKind,
    event::Event,
    waitlist::{Entry, EntryState},
};

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn update(values: Definition, fields: &[EventField]) -> Command {
    command(Action::UpdateEvent(EventUpdate { values, fields: fields.to_vec() }.into()), None)
}

fn limited(limits: Limits, fields: &[EventField]) -> Command {
    update(Definition { limits, ..Definition::default() }, fields)
}

#[test]
fn a_default_that_nobody_set_follows_the_maximum_whenever_that_is_set() {
    use EventField::{HoldTtlDefault, HoldTtlMax};
    let mut world = World::new(1, Policy::default());
    world.event.definition.limits = Limits::default();
    let mut after = |field, hold_ttl_default, hold_ttl_max| {
        let limits = Limits { hold_ttl_default, hold_ttl_max, ..Limits::default() };
        world.carry_out(&limited(limits, &[field]), at(1)).map(|_| {
            let limits = &world.event.definition.limits;
            (limits.hold_ttl_default().as_secs(), limits.hold_ttl_max().as_secs())
        })
    };
    assert_eq!(after(HoldTtlMax, None, seconds(60)), Ok((60, 60)));
    assert_eq!(after(HoldTtlMax, None, seconds(7200)), Ok((600, 7200)), "it follows back again");
    assert_eq!(after(HoldTtlMax, None, None), Ok((600, 3600)));
    assert_eq!(after(HoldTtlDefault, seconds(9000), None), Ok((9000, 9000)), "and so does a maximum");
    assert_eq!(after(HoldTtlDefault, seconds(60), None), Ok((60, 3600)));
    let conflict =
        Refusal::Inconsistent(vec![("limits.hold_ttl_default", "must not be longer than limits.hold_ttl_max")]);
    assert_eq!(after(HoldTtlMax, None, seconds(59)), Err(conflict), "a default that was set stays");
}

#[test]
fn an_extend_that_moves_nothing_uses_up_no_extension() {
    let mut world = World::new(1, Policy::default());
    let id = reserved(&mut world, 1, ReserveMode::Hold(Some(Duration::from_micros(20))), 100);
    let mut extended = |ttl, now| {
        let extend = Action::Extend { target: Target::Id(id), ttl: Some(Duration::from_micros(ttl)) };
        world.carry_out(&command(extend, None), at(now))?;
        world.check();
        Ok((world.rows[&id].expire_time, world.rows[&id].extensions))
    };
    assert_eq!(extended(1, 101), Ok((Some(at(120)), 0)), "it would end earlier");
    assert_eq!(extended(15, 105), Ok((Some(at(120)), 0)), "at the same moment");
    assert_eq!(extended(16, 105), Ok((Some(at(121)), 1)));
    assert_eq!(extended(17, 105), Ok((Some(at(122)), 2)));
    assert_eq!(extended(17, 105), Ok((Some(at(122)), 2)), "with none left");
    assert_eq!(extended(18, 105), Err(Refusal::ExtensionLimit(2)));
}

#[test]
fn a_party_larger_than_a_lowered_limit_ends_and_one_that_takes_fewer_is_offered_the_limit() {
    let mut world = World::new(4, Policy { enabled: true, ..Policy::default() });
    reserved(&mut world, 0, ReserveMode::Confirm, 1);
    let rest = Reserve {
        id: ReservationId(Uuid::from_u128(1)),
        user_id: user(9),
        quantity: 3,
        mode: ReserveMode::Confirm,
        labels: Labels::default(),
    };
    world.carry_out(&command(Action::Reserve(rest), None), at(1)).expect("there is room");
    for (number, min_quantity) in [(1, 4), (2, 2)] {
        let id = ReservationId(Uuid::from_u128(100 + u128::from(number)));
        let join = Join { id, user_id: user(number), quantity: 4, min_quantity, labels: Labels::default() };
        world.carry_out(&command(Action::Join(join), None), at(2)).expect("it is sold out");
    }
    let limits = Limits { max_quantity: 2, ..world.event.definition.limits };
    world.carry_out(&limited(limits, &[EventField::MaxQuantity]), at(3)).expect("it can be lowered");
    world.check();
    let state = |world: &World, number| {
        world.entries.values().find(|entry| entry.user_id == user(number)).map(|entry: &Entry| entry.state)
    };
    assert_eq!((state(&world, 1), state(&world, 2)), (Some(EntryState::Ended), Some(EntryState::Waiting)));
    let ended = world.changes.iter().find(|change| change.kind == ChangeKind::WaitlistEnded).map(|it| it.version);
    assert_eq!(ended, Some(world.event.counters.version - 1), "right before the update that ended it");
    let cancel = Action::Cancel { target: Target::User(user(9)), quantity: None, reason: None };
    world.carry_out(&command(cancel, None), at(4)).expect("it is live");
    world.check();
    let offer = world.rows.values().find(|row| row.user_id == user(2)).expect("an offer");
    assert_eq!((offer.state, offer.quantity), (State::Held, 2), "of the three that are free");
}

#[test]
fn a_relative_close_moves_with_the_times_of_its_event() {
    let closing = |text: &str| BookingClose::Relative(text.parse().expect("a relative time"));
    let mut world = World::new(9, Policy::default());
    let times =
        |start, end| Definition { start_time: Some(at(start)), end_time: Some(at(end)), ..Definition::default() };
    let closes = |event: &Event| event.definition.booking_close_time();
    let said = Definition { booking_close: closing("start-10us"), ..times(200, 300) };
    world
        .carry_out(&update(said, &[EventField::StartTime, EventField::EndTime, EventField::BookingClose]), at(1))
        .expect("they agree");
    assert_eq!(closes(&world.event), Some(at(190)));
    world.carry_out(&update(times(50, 300), &[EventField::StartTime]), at(2)).expect("it can be moved");
    assert_eq!(closes(&world.event), Some(at(40)));
    let wish = |number: u8| Reserve {
        id: ReservationId(Uuid::from_u128(u128::from(number))),
        user_id: user(number),
        quantity: 1,
        mode: ReserveMode::Confirm,
        labels: Labels::default(),
    };
    let reserve = |number| command(Action::Reserve(wish(number)), None);
    world.carry_out(&reserve(1), at(39)).expect("it is open");
    let late = Refusal::EventNotOpen { state: world.event.state, opens: None, closed: Some(at(40)) };
    assert_eq!(world.carry_out(&reserve(2), at(40)), Err(late));
    let at_end = Definition { booking_close: closing("end"), ..Definition::default() };
    world.carry_out(&update(at_end, &[EventField::BookingClose]), at(50)).expect("they agree");
    world.carry_out(&reserve(2), at(299)).expect("it is open");
    let early = Definition { booking_open_time: Some(at(300)), ..Definition::default() };
    let conflict = Refusal::Inconsistent(vec![("booking_close", "must be after booking_open_time")]);
    assert_eq!(world.carry_out(&update(early, &[EventField::BookingOpenTime]), at(51)), Err(conflict));
}
