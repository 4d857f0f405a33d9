//! Random operations on the real service and on a small model must agree, step by step; a disagreement is shrunk to the
//! shortest history that shows it.

mod promises;

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use reservd::rpc::pb::{self, ExecutionStrategy as Locking};
use tokio::runtime::Runtime;
use tonic::Status;
use uuid::Uuid;

use crate::support::{TestServer, entry_of_user, join, new_id, of_user, reason, reserve, with};
use promises::{MAX_QUANTITY, Model, Rules, Step};

/// The service, with the interface of the model.
struct Real<'a> {
    server: &'a TestServer,
    event_id: String,
    locking: Locking,
    open: bool,
}

impl Real<'_> {
    async fn apply(&mut self, step: &Step) -> Result<i32, Status> {
        let mut client = self.server.reservations();
        let (event_id, options) = (self.event_id.clone(), with(self.locking));
        let target = |user: u8| of_user(&name(user));
        let answer = match *step {
            Step::Reserve { user, quantity, confirm } => {
                let wish = pb::ReserveRequest { quantity, confirm, options, ..reserve(&event_id, &name(user)) };
                client.reserve(wish).await?.into_inner().reservation
            }
            Step::Confirm { user, quantity } => {
                let reservation = target(user);
                let wish = pb::ConfirmRequest {
                    event_id,
                    reservation,
                    quantity: Some(quantity).filter(|quantity| *quantity > 0),
                    options,
                    ..Default::default()
                };
                client.confirm(wish).await?.into_inner().reservation
            }
            Step::Cancel { user, quantity } => {
                let reservation = target(user);
                let wish = pb::CancelRequest {
                    event_id,
                    reservation,
                    quantity: Some(quantity).filter(|quantity| *quantity > 0),
                    request_id: new_id(),
                    options,
                    ..Default::default()
                };
                client.cancel(wish).await?.into_inner().reservation
            }
            Step::Extend { user } => {
                let wish = pb::ExtendRequest { event_id, reservation: target(user), options, ..Default::default() };
                client.extend(wish).await?.into_inner().reservation
            }
            Step::Amend { user, quantity } => {
                let reservation = target(user);
                let wish = pb::AmendRequest {
                    event_id,
                    reservation,
                    quantity: Some(quantity).filter(|quantity| *quantity > 0),
                    options,
                    ..Default::default()
                };
                client.amend(wish).await?.into_inner().reservation
            }
            Step::Join { user, quantity, min_quantity } => {
                let wish = pb::JoinWaitlistRequest {
                    min_quantity: Some(min_quantity),
                    options,
                    ..join(&event_id, &name(user), quantity)
                };
                return self.server.join(wish).await.map(|entry| entry.quantity);
            }
            Step::Leave { user } => {
                let entry = entry_of_user(&name(user));
                let wish = pb::LeaveWaitlistRequest { event_id, entry, options, ..Default::default() };
                return self.server.leave(wish).await.map(|entry| entry.quantity);
            }
            Step::Lapse { user } => return Ok(self.lapse(user).await),
            Step::Resize { capacity } => return self.resize(capacity).await,
            Step::Switch => return self.switch().await,
        };
        Ok(answer.expect("a mutation answers with the reservation").quantity)
    }

    async fn lapse(&self, user: u8) -> i32 {
        sqlx::query(
            "UPDATE reservations SET expire_time = now() WHERE event_id = $1 AND user_id = $2 AND state = 'HELD'",
        )
        .bind(&self.event_id)
        .bind(name(user))
        .execute(&mut self.server.sql().await)
        .await
        .expect("a hold can be made to lapse");
        0
    }

    async fn resize(&self, capacity: i32) -> Result<i32, Status> {
        let event = pb::Event { event_id: self.event_id.clone(), capacity, ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["capacity".into()] });
        let wish = pb::UpdateEventRequest { event: Some(event), update_mask, ..Default::default() };
        self.server.events().update_event(wish).await.map(|_| 0)
    }

    async fn switch(&mut self) -> Result<i32, Status> {
        let event_id = self.event_id.clone();
        let mut events = self.server.events();
        if self.open {
            events.close_event(pb::CloseEventRequest { event_id, ..Default::default() }).await?;
        } else {
            events.open_event(pb::OpenEventRequest { event_id, ..Default::default() }).await?;
        }
        self.open = !self.open;
        Ok(0)
    }
}

fn name(user: u8) -> String {
    format!("user-{user}")
}

fn a_step() -> impl Strategy<Value = Step> {
    let (user, quantity) = (|| 0..6_u8, || 0..6_i32);
    prop_oneof![
        6 => (user(), 1..6_i32, any::<bool>())
            .prop_map(|(user, quantity, confirm)| Step::Reserve { user, quantity, confirm }),
        4 => (user(), quantity()).prop_map(|(user, quantity)| Step::Confirm { user, quantity }),
        4 => (user(), quantity()).prop_map(|(user, quantity)| Step::Cancel { user, quantity }),
        3 => user().prop_map(|user| Step::Extend { user }),
        3 => (user(), 1..6_i32).prop_map(|(user, quantity)| Step::Amend { user, quantity }),
        6 => (user(), 1..6_i32, 1..6_i32).prop_map(|(user, quantity, min)| {
            Step::Join { user, quantity, min_quantity: min.min(quantity) }
        }),
        2 => user().prop_map(|user| Step::Leave { user }),
        3 => user().prop_map(|user| Step::Lapse { user }),
        1 => (0..10_i32).prop_map(|capacity| Step::Resize { capacity }),
        1 => Just(Step::Switch),
    ]
}

async fn agree(
    server: &TestServer,
    locking: Locking,
    rules: Rules,
    capacity: i32,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let event_id = Uuid::now_v7().to_string();
    server.event_with(event(&event_id, rules, capacity)).await;
    let mut model = Model {
        rules,
        capacity,
        open: true,
        users: BTreeMap::new(),
        unreleased: Vec::new(),
        line: Vec::new(),
        joined: BTreeMap::new(),
    };
    let mut real = Real { server, event_id: event_id.clone(), locking, open: true };
    for step in steps {
        let expected = model.apply(step).map_err(str::to_owned);
        let told = real.apply(step).await.map_err(|status| reason(&status));
        prop_assert_eq!(told, expected, "at {:?}, with {:?}", step, &model);
        let wish = pb::GetAvailabilityRequest { event_id: event_id.clone() };
        let seen = server.events().get_availability(wish).await.expect("the event is there").into_inner();
        let seen = seen.availability.expect("its availability");
        prop_assert_eq!(
            seen.counts.unwrap_or_default().available,
            model.capacity - model.taken(),
            "after {:?}, with {:?}",
            step,
            &model
        );
        prop_assert_eq!(
            seen.counts.unwrap_or_default().waiting as usize,
            model.line.len(),
            "after {:?}, with {:?}",
            step,
            &model
        );
    }
    let states = vec![pb::WaitlistEntryState::Waiting.into()];
    let wish = pb::ListWaitlistRequest { event_id, states, ..Default::default() };
    let line = server.waitlist().list_waitlist(wish).await.expect("the line").into_inner().entries;
    let told: Vec<_> = line.into_iter().map(|entry| (entry.user_id, entry.skip_count)).collect();
    let expected: Vec<_> = model.line.iter().map(|party| (name(party.user), party.skips)).collect();
    prop_assert_eq!(told, expected);
    Ok(())
}

fn event(event_id: &str, rules: Rules, capacity: i32) -> pb::Event {
    let limits = pb::EventLimits { max_quantity: Some(MAX_QUANTITY), max_extensions: Some(2), ..Default::default() };
    let skips = rules.max_skips > 0;
    let order = if skips { pb::WaitlistOrder::SkipTooLarge } else { pb::WaitlistOrder::StrictFifo };
    let waitlist = pb::WaitlistPolicy {
        enabled: true,
        max_size: i32::try_from(rules.max_size).ok(),
        offer_ttl: None,
        order: order.into(),
        max_skips: skips.then_some(rules.max_skips),
        newcomers_may_overtake: rules.newcomers_may_overtake,
        join_before_booking: false,
    };
    pb::Event {
        event_id: event_id.into(),
        capacity,
        limits: Some(limits),
        waitlist: Some(waitlist),
        ..Default::default()
    }
}

fn some_rules() -> impl Strategy<Value = Rules> {
    (1..5_usize, 0..3_i32, any::<bool>()).prop_map(|(max_size, max_skips, newcomers_may_overtake)| Rules {
        max_size,
        max_skips,
        newcomers_may_overtake,
    })
}

#[test]
fn the_service_and_the_model_agree() {
    let runtime = Runtime::new().expect("a runtime");
    // Holds lapse when the test says so, and only commands that need the units release them.
    let settings = [("expiry.interval", "1h"), ("waitlist.promotion_interval", "1h")];
    let server = runtime.block_on(TestServer::with(&settings));
    let mut runner = TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() });
    let locking = prop_oneof![Just(Locking::Pessimistic), Just(Locking::Optimistic), Just(Locking::Coalesced)];
    let cases = (locking, some_rules(), 0..10_i32, prop::collection::vec(a_step(), 1..40));
    runner
        .run(&cases, |(locking, rules, capacity, steps)| {
            runtime.block_on(agree(&server, locking, rules, capacity, &steps))
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(server.check_and_stop());
}
