//! One traveller: what they wish for, and what must never come of it.

use std::time::Duration;

use reservd::rpc::pb::{
    AmendRequest, CancelRequest, ConfirmRequest, ExecutionOptions, ExecutionStrategy, ExtendRequest, LockWait,
    Reservation, ReservationSelector, ReservationState, ReserveRequest, reservation_selector::Selector,
    reservation_service_client::ReservationServiceClient,
};
use tokio::time::sleep;
use tonic::{Request, transport::Channel};

use super::tally::{Answer, Call, Done, Tally};

/// How long a hold lasts that is meant to lapse.
pub const SHORT_HOLD: Duration = Duration::from_millis(150);
/// The most that the service allows; no call of a wave takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes one call with a deadline of its own, and takes the answer apart.
macro_rules! send {
    ($client:expr, $rpc:ident, $request:expr) => {{
        let mut request = Request::new($request);
        request.set_timeout(DEADLINE);
        let answer: Answer = $client.clone().$rpc(request).await.map(|answer| {
            let answer = answer.into_inner();
            (answer.reservation, answer.execution)
        });
        answer
    }};
}

pub struct Traveller {
    user_id: String,
    client: ReservationServiceClient<Channel>,
    rng: fastrand::Rng,
    requests: u32,
    tally: Tally,
}

impl Traveller {
    pub fn new(user_id: String, channel: Channel, seed: u64) -> Self {
        let client = ReservationServiceClient::new(channel);
        let rng = fastrand::Rng::with_seed(seed);
        Self { user_id, client, rng, requests: 0, tally: Tally::default() }
    }

    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    pub fn into_tally(self) -> Tally {
        self.tally
    }

    /// All travellers want one seat of the same flight at the same moment.
    pub async fn rush(&mut self, event_id: &str) {
        let wish = ReserveRequest { quantity: 1, confirm: true, ..self.wish(event_id) };
        self.reserve(wish).await;
    }

    /// One trip, of any kind.
    pub async fn trip(&mut self, event_id: &str) {
        let wish = self.wish(event_id);
        match self.rng.u8(..10) {
            0 => self.book_at_once(wish).await,
            1 | 2 => self.book(wish).await,
            3 => self.take_time(wish).await,
            4 => self.change_party(wish).await,
            5 => self.give_up(wish).await,
            6 => self.ask_twice(wish).await,
            7 => self.send_again(wish).await,
            8 => self.come_late(wish).await,
            _ => self.walk_away(wish).await,
        }
    }

    async fn book_at_once(&mut self, wish: ReserveRequest) {
        self.reserve(ReserveRequest { confirm: true, ..wish }).await;
    }

    /// A hold, then all of it is taken, or sometimes less.
    async fn book(&mut self, wish: ReserveRequest) {
        if let Some(hold) = self.reserve(wish).await {
            let quantity = self.some_of(&hold);
            self.confirm(&hold, quantity).await;
        }
    }

    async fn take_time(&mut self, wish: ReserveRequest) {
        let Some(hold) = self.reserve(wish).await else { return };
        let (options, request_id) = (self.options(), self.request_id());
        let reservation = this(&hold);
        let request =
            ExtendRequest { event_id: hold.event_id.clone(), reservation, request_id, options, ..Default::default() };
        let answer = send!(self.client, extend, request);
        self.tally.note(Call::Extend, answer);
        self.confirm(&hold, None).await;
    }

    /// The party becomes larger or smaller before it is booked.
    async fn change_party(&mut self, wish: ReserveRequest) {
        let Some(hold) = self.reserve(wish).await else { return };
        let (options, request_id) = (self.options(), self.request_id());
        let request = AmendRequest {
            event_id: hold.event_id.clone(),
            reservation: this(&hold),
            quantity: Some(self.rng.i32(1..=6)),
            request_id,
            options,
            ..Default::default()
        };
        let answer = send!(self.client, amend, request);
        self.tally.note(Call::Amend, answer);
        self.confirm(&hold, None).await;
    }

    /// A booking is cancelled, wholly or in part; or a hold is.
    async fn give_up(&mut self, wish: ReserveRequest) {
        let confirm = self.rng.bool();
        let Some(booked) = self.reserve(ReserveRequest { confirm, ..wish }).await else { return };
        let (options, request_id) = (self.options(), self.request_id());
        let request = CancelRequest {
            event_id: booked.event_id.clone(),
            reservation: this(&booked),
            quantity: self.some_of(&booked),
            reason: "changed my mind".into(),
            request_id,
            options,
            ..Default::default()
        };
        let answer = send!(self.client, cancel, request);
        self.tally.note(Call::Cancel, answer);
    }

    /// Two requests of one user race; they may get one reservation between them.
    async fn ask_twice(&mut self, wish: ReserveRequest) {
        let other = ReserveRequest { request_id: self.request_id(), options: self.options(), ..wish.clone() };
        let (one, other) = self.race(wish, other).await;
        if one.is_some() && other.is_some() {
            self.tally.problem(format!("{} was booked twice", self.user_id));
        }
    }

    /// The same request twice at once, and once more, as after a lost answer; then its request_id with
    /// another payload.
    async fn send_again(&mut self, wish: ReserveRequest) {
        let (one, other) = self.race(wish.clone(), wish.clone()).await;
        if let (Some(one), Some(other)) = (&one, &other)
            && one.replayed == other.replayed
        {
            self.tally.problem(format!("{} saw one request_id take effect other than once", self.user_id));
        }
        let Some(first) = one.or(other) else { return };
        let wish = ReserveRequest { options: patient(), ..wish };
        let again = send!(self.client, reserve, wish.clone());
        let again = self.tally.note(Call::Reserve, again);
        if !again.is_some_and(|again| again.replayed && again.reservation == first.reservation) {
            self.tally.problem(format!("{} was not told the first answer again", self.user_id));
        }
        if self.reserve(ReserveRequest { quantity: wish.quantity + 1, ..wish }).await.is_some() {
            self.tally.problem(format!("{} used one request_id for two requests", self.user_id));
        }
    }

    /// The hold lapses before it is confirmed.
    async fn come_late(&mut self, wish: ReserveRequest) {
        if let Some(hold) = self.reserve(lapsing(wish)).await {
            sleep(SHORT_HOLD).await;
            if self.confirm(&hold, None).await {
                self.tally.problem(format!("{} confirmed a hold after its end", self.user_id));
            }
        }
    }

    /// A hold that its user abandons: some lapse soon, some stay for a while.
    async fn walk_away(&mut self, wish: ReserveRequest) {
        let wish = if self.rng.bool() { lapsing(wish) } else { wish };
        self.reserve(wish).await;
    }

    async fn reserve(&mut self, wish: ReserveRequest) -> Option<Reservation> {
        let answer = send!(self.client, reserve, wish);
        self.tally.note(Call::Reserve, answer).map(|done| done.reservation)
    }

    async fn race(&mut self, one: ReserveRequest, other: ReserveRequest) -> (Option<Done>, Option<Done>) {
        let client = &self.client;
        let (one, other) = tokio::join!(async { send!(client, reserve, one) }, async { send!(client, reserve, other) });
        (self.tally.note(Call::Reserve, one), self.tally.note(Call::Reserve, other))
    }

    async fn confirm(&mut self, hold: &Reservation, quantity: Option<i32>) -> bool {
        let (options, request_id) = (self.options(), self.request_id());
        let event_id = hold.event_id.clone();
        let request =
            ConfirmRequest { event_id, reservation: this(hold), quantity, request_id, options, ..Default::default() };
        let answer = send!(self.client, confirm, request);
        let confirmed = self.tally.note(Call::Confirm, answer);
        confirmed.is_some_and(|done| done.reservation.state() == ReservationState::Confirmed)
    }

    /// All seats of a reservation, or some of them.
    fn some_of(&mut self, reservation: &Reservation) -> Option<i32> {
        if self.rng.bool() { None } else { Some(self.rng.i32(1..=reservation.quantity)) }
    }

    /// A hold of some seats, for longer than a wave lasts.
    fn wish(&mut self, event_id: &str) -> ReserveRequest {
        ReserveRequest {
            event_id: event_id.into(),
            user_id: self.user_id.clone(),
            quantity: self.rng.i32(1..=4),
            request_id: self.request_id(),
            options: self.options(),
            ..Default::default()
        }
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("{}.{}", self.user_id, self.requests)
    }

    /// Every strategy, the server's own choice among them; and now and then one that does not wait.
    fn options(&mut self) -> Option<ExecutionOptions> {
        use ExecutionStrategy::{Coalesced, Optimistic, Pessimistic, Unspecified};
        let strategies = [Unspecified, Pessimistic, Optimistic, Coalesced];
        let strategy = strategies[self.rng.usize(..strategies.len())];
        let lock_wait = if self.rng.u8(..20) == 0 { LockWait::Nowait } else { LockWait::Wait };
        Some(ExecutionOptions { strategy: strategy.into(), lock_wait: lock_wait.into() })
    }
}

/// Queues for its turn, so that nothing but the rules can refuse it.
fn patient() -> Option<ExecutionOptions> {
    Some(ExecutionOptions { strategy: ExecutionStrategy::Pessimistic.into(), lock_wait: LockWait::Wait.into() })
}

fn lapsing(wish: ReserveRequest) -> ReserveRequest {
    ReserveRequest { hold_ttl: prost_types::Duration::try_from(SHORT_HOLD).ok(), ..wish }
}

fn this(reservation: &Reservation) -> Option<ReservationSelector> {
    Some(ReservationSelector { selector: Some(Selector::ReservationId(reservation.reservation_id.clone())) })
}
