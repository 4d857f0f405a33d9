//! Random operations on the real service and on a model of a few lines must agree, step by step; a
//! disagreement is shrunk to the shortest history that shows it.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use reservd::rpc::pb::{self, Strategy as Locking};
use tokio::runtime::Runtime;
use tonic::Status;
use uuid::Uuid;

use crate::support::{TestServer, of_user, reason, reserve, with};

const MAX_QUANTITY: i32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        user: u8,
        quantity: i32,
        confirm: bool,
    },
    Confirm {
        user: u8,
        quantity: i32,
    },
    Cancel {
        user: u8,
        quantity: i32,
    },
    Extend {
        user: u8,
    },
    Amend {
        user: u8,
        quantity: i32,
    },
    /// The user's hold reaches its end; nobody releases it.
    Lapse {
        user: u8,
    },
    Resize {
        capacity: i32,
    },
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Held { extensions: i32 },
    Lapsed,
    Confirmed,
    Cancelled,
}

/// What the service promises, in the plainest terms.
#[derive(Debug)]
struct Model {
    capacity: i32,
    open: bool,
    /// Of each user the newest reservation.
    users: BTreeMap<u8, (Life, i32)>,
}

/// The units that the user has afterwards, or why not.
type Answer = Result<i32, &'static str>;

impl Model {
    fn taken(&self) -> i32 {
        let takes = |life: &Life| matches!(life, Life::Held { .. } | Life::Confirmed);
        self.users.values().filter(|(life, _)| takes(life)).map(|(_, quantity)| quantity).sum()
    }

    fn live(&self, user: u8) -> Result<(Life, i32), &'static str> {
        match self.users.get(&user) {
            None => Err("RESERVATION_NOT_FOUND"),
            Some((Life::Lapsed, _)) => Err("HOLD_EXPIRED"),
            Some((Life::Cancelled, _)) => Err("NOT_LIVE"),
            Some(live) => Ok(*live),
        }
    }

    fn room_for(&self, units: i32) -> Result<(), &'static str> {
        if self.taken() + units <= self.capacity { Ok(()) } else { Err("SOLD_OUT") }
    }

    fn set(&mut self, user: u8, life: Life, quantity: i32) -> Answer {
        self.users.insert(user, (life, quantity));
        Ok(quantity)
    }

    fn apply(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Reserve { user, quantity, confirm } => {
                if !self.open {
                    return Err("EVENT_NOT_OPEN");
                }
                if quantity > MAX_QUANTITY {
                    return Err("QUANTITY_LIMIT");
                }
                if self.live(user).is_ok() {
                    return Err("ALREADY_RESERVED");
                }
                self.room_for(quantity)?;
                let life = if confirm { Life::Confirmed } else { Life::Held { extensions: 0 } };
                self.set(user, life, quantity)
            }
            Step::Confirm { user, quantity } => match self.live(user)? {
                (Life::Confirmed, _) => Err("NOT_HELD"),
                (_, has) if quantity > has => Err("QUANTITY_LIMIT"),
                (_, has) => self.set(user, Life::Confirmed, if quantity == 0 { has } else { quantity }),
            },
            Step::Cancel { user, quantity } => match self.live(user)? {
                (_, has) if quantity > has => Err("QUANTITY_LIMIT"),
                (life, has) if quantity > 0 && quantity < has => self.set(user, life, has - quantity),
                (_, has) => self.set(user, Life::Cancelled, has),
            },
            Step::Extend { user } => match self.live(user)? {
                (Life::Held { extensions }, has) if extensions < 2 => {
                    self.set(user, Life::Held { extensions: extensions + 1 }, has)
                }
                (Life::Held { .. }, _) => Err("EXTENSION_LIMIT"),
                _ => Err("NOT_HELD"),
            },
            Step::Amend { user, quantity } => {
                let (life, has) = self.live(user)?;
                if quantity > has {
                    if !self.open {
                        return Err("EVENT_NOT_OPEN");
                    }
                    if quantity > MAX_QUANTITY {
                        return Err("QUANTITY_LIMIT");
                    }
                    self.room_for(quantity - has)?;
                }
                self.set(user, life, quantity)
            }
            Step::Lapse { user } => {
                if let Some((life @ Life::Held { .. }, _)) = self.users.get_mut(&user) {
                    *life = Life::Lapsed;
                }
                Ok(0)
            }
            Step::Resize { capacity } => {
                if capacity < self.capacity && self.taken() > capacity {
                    return Err("CAPACITY_BELOW_RESERVED");
                }
                self.capacity = capacity;
                Ok(0)
            }
            Step::Switch => {
                self.open = !self.open;
                Ok(0)
            }
        }
    }
}

/// The service, seen as the model is.
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
                let wish = pb::ConfirmRequest { event_id, reservation, quantity, options, ..Default::default() };
                client.confirm(wish).await?.into_inner().reservation
            }
            Step::Cancel { user, quantity } => {
                let reservation = target(user);
                let wish = pb::CancelRequest { event_id, reservation, quantity, options, ..Default::default() };
                client.cancel(wish).await?.into_inner().reservation
            }
            Step::Extend { user } => {
                let wish = pb::ExtendRequest { event_id, reservation: target(user), options, ..Default::default() };
                client.extend(wish).await?.into_inner().reservation
            }
            Step::Amend { user, quantity } => {
                let reservation = target(user);
                let wish = pb::AmendRequest { event_id, reservation, quantity, options, ..Default::default() };
                client.amend(wish).await?.into_inner().reservation
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
    let (user, quantity) = (|| 0..4_u8, || 0..6_i32);
    prop_oneof![
        6 => (user(), 1..6_i32, any::<bool>())
            .prop_map(|(user, quantity, confirm)| Step::Reserve { user, quantity, confirm }),
        4 => (user(), quantity()).prop_map(|(user, quantity)| Step::Confirm { user, quantity }),
        4 => (user(), quantity()).prop_map(|(user, quantity)| Step::Cancel { user, quantity }),
        3 => user().prop_map(|user| Step::Extend { user }),
        3 => (user(), 1..6_i32).prop_map(|(user, quantity)| Step::Amend { user, quantity }),
        3 => user().prop_map(|user| Step::Lapse { user }),
        1 => (0..10_i32).prop_map(|capacity| Step::Resize { capacity }),
        1 => Just(Step::Switch),
    ]
}

async fn agree(server: &TestServer, locking: Locking, capacity: i32, steps: &[Step]) -> Result<(), TestCaseError> {
    let event_id = Uuid::now_v7().to_string();
    let limits = pb::EventLimits { max_quantity: Some(MAX_QUANTITY), max_extensions: Some(2), ..Default::default() };
    let event = pb::Event { event_id: event_id.clone(), capacity, limits: Some(limits), ..Default::default() };
    server.event_with(event).await;
    let mut model = Model { capacity, open: true, users: BTreeMap::new() };
    let mut real = Real { server, event_id: event_id.clone(), locking, open: true };
    for step in steps {
        let expected = model.apply(step).map_err(str::to_owned);
        let told = real.apply(step).await.map_err(|status| reason(&status));
        prop_assert_eq!(told, expected, "at {:?}, with {:?}", step, &model);
        let wish = pb::GetAvailabilityRequest { event_id: event_id.clone() };
        let seen = server.events().get_availability(wish).await.expect("the event is there").into_inner();
        let available = seen.availability.expect("its availability").available;
        prop_assert_eq!(available, model.capacity - model.taken(), "after {:?}", step);
    }
    Ok(())
}

#[test]
fn the_service_and_the_model_agree() {
    let runtime = Runtime::new().expect("a runtime");
    // Holds lapse when the test says so, and nobody releases them but those who need the units.
    let server = runtime.block_on(TestServer::with(&[("holds.sweep_interval", "1h")]));
    let mut runner = TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() });
    let locking = prop_oneof![Just(Locking::Pessimistic), Just(Locking::Optimistic), Just(Locking::Coalesced)];
    let cases = (locking, 0..10_i32, prop::collection::vec(a_step(), 1..40));
    runner
        .run(&cases, |(locking, capacity, steps)| runtime.block_on(agree(&server, locking, capacity, &steps)))
        .unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(server.check_and_stop());
}
