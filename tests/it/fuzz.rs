//! Generated requests to every RPC, made from the descriptors that the service itself serves: plausible ones
//! with something wrong in them, bytes that are no message, calls that are no gRPC, tokens that are none.
//! Each gets a proper answer, none shows a defect, and the audit stays clean.
//!
//! The test sends some thousands, always the same; `make fuzz` sends a million others each time. A failure names the
//! seed and the request: `FUZZ_SEED`, `FUZZ_FIRST` and `FUZZ_REQUESTS` repeat it.

mod answers;
mod calls;
mod messages;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use reservd::rpc::pb::{CreateEventRequest, Event};
use tokio::task::JoinSet;

use self::{
    answers::check,
    calls::{Call, Connection},
    messages::Values,
};
use crate::support::{Guarded, TestRedis, join, reserve, strict};

const REQUESTS: usize = 4000;
/// The seed is fixed, so that a change does not fail for an older defect that another seed would have found.
const SEED: u64 = 1;
/// Concurrent callers, each on a connection of its own.
const CALLERS: usize = 16;
/// Requests to one set of events, before new events are created: many changes of an event are final.
const EPOCH: usize = 2000;
const EVENTS: usize = 3;

/// Every RPC of the server.
fn methods() -> Vec<MethodDescriptor> {
    let mut methods = Vec::new();
    for encoded in [
        reservd::rpc::pb::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        let pool = DescriptorPool::decode(encoded).expect("descriptors");
        methods.extend(pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()));
    }
    methods
}

/// The shared state of a run.
struct Run {
    guarded: Guarded,
    methods: Vec<MethodDescriptor>,
    seed: u64,
    next: AtomicUsize,
    end: usize,
    /// How often each RPC answered with each code.
    seen: Mutex<BTreeMap<String, BTreeMap<String, usize>>>,
    /// Page tokens from answers.
    tokens: Mutex<Vec<String>>,
}

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_with_a_defect() {
    let requests = setting("FUZZ_REQUESTS").map_or(REQUESTS, |requests| requests as usize);
    let first = setting("FUZZ_FIRST").map_or(0, |first| first as usize);
    let run = Arc::new(Run {
        guarded: Guarded::with(&TestRedis::new().await.settings()).await,
        methods: methods(),
        seed: setting("FUZZ_SEED").unwrap_or(SEED),
        next: AtomicUsize::new(first),
        end: first + requests,
        seen: Mutex::default(),
        tokens: Mutex::default(),
    });
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(Arc::clone(&run).call());
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller ends well");
    }
    let run = Arc::into_inner(run).expect("all callers have ended");
    run.report(requests, began.elapsed());
    if requests >= REQUESTS {
        run.has_met_everything();
    }
    run.guarded.event("after", 1).await;
    run.guarded.check_and_stop().await;
}

impl Run {
    async fn call(self: Arc<Self>) {
        let mut open = Connection::open(self.guarded.unguarded()).await;
        let mut guarded = Connection::open(&self.guarded.server).await;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                return;
            }
            if number.is_multiple_of(EPOCH) {
                self.create_events(number / EPOCH).await;
            }
            let call = self.make(number);
            let connection = if call.token.is_some() { &mut guarded } else { &mut open };
            let answer = connection.send(&call).await;
            let told = check(&call, &answer);
            let code = told.unwrap_or_else(|wrong| {
                panic!("{wrong}\nFUZZ_SEED={} FUZZ_FIRST={number}\n{call:?}\n{answer:?}", self.seed)
            });
            let mut seen = self.seen.lock().expect("no holder panics");
            *seen.entry(call.method.full_name().to_owned()).or_default().entry(code).or_default() += 1;
            drop(seen);
            if let Some(token) = answer.page_token(&call) {
                let mut tokens = self.tokens.lock().expect("no holder panics");
                let place = number % 64;
                if place < tokens.len() { tokens[place] = token } else { tokens.push(token) }
            }
        }
    }

    /// Creates the events of an epoch: one is sold out and has a waitlist; some users have reservations, and some wait.
    async fn create_events(&self, epoch: usize) {
        let server = self.guarded.unguarded();
        for number in 0..EVENTS {
            let (event_id, capacity) = (format!("event-{epoch}-{number}"), if number == 0 { 4 } else { 50 });
            let event = Event { event_id: event_id.clone(), capacity, waitlist: Some(strict()), ..Default::default() };
            let request = CreateEventRequest { event: Some(event), ..Default::default() };
            // A generated request may have created the event already, or reserved its units.
            let _ = server.events().create_event(request).await;
            for user in 0..8 {
                let user = format!("user-{user}");
                let _ = server.reservations().reserve(reserve(&event_id, &user)).await;
                let _ = server.waitlist().join_waitlist(join(&event_id, &user, 1)).await;
            }
        }
    }

    /// The request with this number.
    fn make(&self, number: usize) -> Call {
        // Neighbouring seeds would begin with similar numbers: one draw separates them.
        let mut random = Rng::with_seed(Rng::with_seed(self.seed ^ (number as u64)).u64(..));
        let token = {
            let tokens = self.tokens.lock().expect("no holder panics");
            random.choice(tokens.iter()).cloned()
        };
        let method = loop {
            let method = random.choice(&self.methods).expect("there are RPCs");
            // These have final effects or cause much work, so they are rare.
            let is_seldom = ["CancelEvent", "RunConcurrencyTest"].contains(&method.name());
            if !is_seldom || random.u8(..20) == 0 {
                break method.clone();
            }
        };
        let values = Values { random, epoch: number / EPOCH, page_token: token.unwrap_or_default() };
        Call::make(method, values, &self.guarded.issuer)
    }

    fn report(&self, requests: usize, took: Duration) {
        println!("seed {}: {requests} requests in {took:.1?}", self.seed);
        for (method, codes) in self.seen.lock().expect("no holder panics").iter() {
            println!("{method}: {codes:?}");
        }
    }

    /// Asserts that requests got past the first checks: otherwise only these would be tested.
    fn has_met_everything(&self) {
        let seen = self.seen.lock().expect("no holder panics");
        for method in &self.methods {
            assert!(seen.contains_key(method.full_name()), "seed {}: {} was not called", self.seed, method.full_name());
        }
        let succeed = seen.values().filter(|codes| codes.contains_key("OK")).count();
        assert!(succeed >= self.methods.len() / 2, "seed {}: {succeed} RPCs of {}", self.seed, self.methods.len());
        for code in ["INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "UNAUTHENTICATED"] {
            assert!(seen.values().any(|codes| codes.contains_key(code)), "seed {}: no {code}", self.seed);
        }
    }
}
