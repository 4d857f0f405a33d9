//! From a batch to its plan: what is read, or remembered, and then decided, and how that is written.

use std::{panic::AssertUnwindSafe, sync::Mutex};

use futures::FutureExt;
use sqlx::PgConnection;
use tokio::time::timeout_at;

use super::{
    Item,
    batch::{By, commands, latest},
    books::{Books, Fate, Trail},
    lock,
    memory::{Memory, Recalled},
};
use crate::{
    domain::decide::Decision,
    ops::Ledger,
    store::{
        StoreError,
        apply::{Alone, Presumption},
        context::{self, Context},
    },
};

/// How far a batch is that is not written yet.
#[derive(Default)]
pub(super) enum Stage {
    /// Nothing is done.
    #[default]
    Fresh,
    /// What it is decided on was read.
    Read(Books),
    /// It was decided, and may take in more.
    Decided(Draft),
    /// It is ready to be written.
    Planned(Plan),
}

/// What was decided for a batch as far as it has come.
pub(super) struct Draft {
    books: Books,
    fates: Vec<Fate>,
    /// Which of the commands were decided without a reading, by their place.
    is_presumed: Vec<bool>,
    /// Whether all of them were decided. What comes after one that was put off must not overtake it.
    is_complete: bool,
    /// Whether some of it was presumed, and then when so many connections had been made.
    presumed_with: Option<u64>,
}

/// What was decided for a batch, ready to be written.
pub(super) struct Plan {
    pub(super) fates: Vec<Fate>,
    /// None: there is nothing to write.
    pub(super) writing: Option<Alone>,
    /// What it does, until somebody asks.
    trail: Option<Trail>,
    /// As in the draft.
    pub(super) presumed_with: Option<u64>,
}

impl Stage {
    /// The stage that `items` can be brought to while the batch `ahead` of them is written: read, and
    /// decided as if that had been written already. If in the end it was not, this is void. None: the
    /// reading is of no use.
    pub(super) async fn ahead(ledger: &Ledger, memory: &Mutex<Memory>, items: &[Item], ahead: &Trail) -> Option<Self> {
        if let Some(draft) = Draft::presuming(ledger, memory, items, Some(ahead)).await {
            return Some(Self::Decided(draft));
        }
        let staged = on_a_connection(ledger, items, async |conn| {
            let read = context::load_without_holds(conn, &commands(items)).await?;
            let Some(books) = Books::upon(read, Some(ahead), items) else { return Ok(None) };
            // Who gets the places that come free is read as the batch ahead will have left it.
            if books.somebody_waits() {
                return Ok(Some(Self::Read(books)));
            }
            Ok(Some(Self::Decided(Draft::of(Some(conn), items, books).await?)))
        });
        staged.await.flatten()
    }

    /// Takes in one command more behind those that were decided. False: it has to be read for, or there is
    /// nothing decided yet.
    pub(super) fn takes_in(&mut self, ledger: &Ledger, memory: &Mutex<Memory>, item: &Item, ahead: &Trail) -> bool {
        let Self::Decided(draft) = self else { return false };
        draft.takes_in(&mut lock(memory), ledger.pool.connections_made(), item, ahead)
    }

    /// A plan, if it can be had. Where that fails the stage is as good as none.
    pub(super) async fn planned(self, ledger: &Ledger, memory: &Mutex<Memory>, items: &[Item]) -> Self {
        let draft = match self {
            Self::Planned(plan) => return Self::Planned(plan),
            Self::Decided(draft) => Some(draft),
            stage => {
                let presumed = match &stage {
                    Self::Fresh => Draft::presuming(ledger, memory, items, None).await,
                    _ => None,
                };
                match presumed {
                    Some(draft) => Some(draft),
                    None => on_a_connection(ledger, items, async |conn| stage.draft(conn, items).await).await.flatten(),
                }
            }
        };
        let Some(draft) = draft else { return Self::Fresh };
        let presumed = draft.is_presumed.iter().filter(|is_presumed| **is_presumed).count();
        ledger.metrics.batch_speculative.inc_by(presumed as u64);
        Self::Planned(draft.finish(items))
    }

    /// Whether it rests on what was presumed when fewer connections had been made.
    pub(super) fn is_outdated(&self, connections: u64) -> bool {
        matches!(self, Self::Planned(Plan { presumed_with: Some(before), .. }) if *before != connections)
    }

    /// Brings a batch from this stage to a plan. None: an event changed while it was read.
    pub(super) async fn plan(self, conn: &mut PgConnection, items: &[Item]) -> Result<Option<Plan>, StoreError> {
        if let Self::Planned(plan) = self {
            return Ok(Some(plan));
        }
        Ok(self.draft(conn, items).await?.map(|draft| draft.finish(items)))
    }

    async fn draft(self, conn: &mut PgConnection, items: &[Item]) -> Result<Option<Draft>, StoreError> {
        let books = match self {
            Self::Decided(draft) => return Ok(Some(draft)),
            Self::Read(books) => books,
            Self::Fresh | Self::Planned(_) => match context::load(conn, &commands(items)).await? {
                Some(context) => Books::new(context),
                None => return Ok(None),
            },
        };
        Draft::of(Some(conn), items, books).await.map(Some)
    }

    /// What it will do; to be asked once. None: there is no plan.
    pub(super) fn trail(&mut self) -> Option<Trail> {
        if let Self::Planned(plan) = self { plan.trail.take() } else { None }
    }

    pub(super) const fn is_decided(&self) -> bool {
        matches!(self, Self::Decided(_))
    }
}

impl Draft {
    async fn of(conn: Option<&mut PgConnection>, items: &[Item], mut books: Books) -> Result<Self, StoreError> {
        let fates = books.decide_all(conn, items, By::Version).await?;
        let is_complete = !fates.iter().any(|fate| matches!(fate, Fate::LeftOut));
        Ok(Self { books, fates, is_presumed: vec![false; items.len()], is_complete, presumed_with: None })
    }

    /// Decides on what is remembered, and reads for those commands only that need more. None: nothing is
    /// remembered that is of use, or it would not be a yes to all that was presumed.
    async fn presuming(ledger: &Ledger, memory: &Mutex<Memory>, items: &[Item], ahead: Option<&Trail>) -> Option<Self> {
        let connections = ledger.pool.connections_made();
        let Recalled { now, snapshots, is_presumed } = lock(memory).recall(items, connections)?;
        let mut context = Context { now, snapshots };
        let others = items.iter().zip(&is_presumed).filter(|(_, is_presumed)| !**is_presumed);
        let others: Vec<_> = others.map(|(item, _)| &item.command).collect();
        if !others.is_empty() {
            let read = async |conn: &mut PgConnection| context::load_without_holds(conn, &others).await;
            let read = on_a_connection(ledger, items, read).await?;
            context.now = context.now.max(read.now);
            context.snapshots.extend(read.snapshots);
        }
        let books = Books::upon(context, ahead, items).filter(|books| !books.somebody_waits())?;
        let draft = Self::of(None, items, books).await.ok()?;
        let is_yes = |fate: &Fate| matches!(fate, Fate::Decided(Ok(_)) | Fate::Late);
        if draft.fates.iter().zip(&is_presumed).any(|(fate, is_presumed)| *is_presumed && !is_yes(fate)) {
            return None;
        }
        Some(Self { is_presumed, presumed_with: Some(connections), ..draft })
    }

    /// Takes in a command that needs no reading, and is a yes.
    fn takes_in(&mut self, memory: &mut Memory, connections: u64, item: &Item, ahead: &Trail) -> bool {
        // With another connection made, nothing is known any more.
        let known = memory.known_for(item, connections).filter(|_| self.is_complete);
        let Some(yes) = known.and_then(|event| self.books.decide_presuming(item, event, ahead)) else { return false };
        self.fates.push(Fate::Decided(Ok(yes)));
        self.is_presumed.push(true);
        self.presumed_with = Some(connections);
        true
    }

    fn finish(self, items: &[Item]) -> Plan {
        let Self { books, fates, is_presumed, presumed_with, .. } = self;
        let decided = books.decided(items, &fates);
        let trail = Some(books.trail(&decided));
        let presumed = items.iter().zip(&fates).zip(&is_presumed).filter(|(_, is_presumed)| **is_presumed);
        let presumed: Vec<_> = presumed.filter_map(|((item, fate), _)| presumption(item, fate)).collect();
        let writing = (!decided.is_empty()).then(|| Alone::new(&decided, &presumed));
        Plan { fates, writing, trail, presumed_with }
    }
}

/// What a Reserve rests on that was decided without a reading; nothing if it writes nothing.
fn presumption<'a>(item: &'a Item, fate: &'a Fate) -> Option<Presumption<'a>> {
    let Fate::Decided(Ok(Decision::Commit(commit))) = fate else { return None };
    let user_id = &commit.answer().reservation()?.user_id;
    let request_id = item.command.request.as_ref().map(|request| &request.id);
    Some(Presumption { event_id: &item.command.event_id, user_id, request_id })
}

/// Does some work for `items` that changes nothing, and may as well be done again. None: it failed.
async fn on_a_connection<T>(
    ledger: &Ledger,
    items: &[Item],
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
) -> Option<T> {
    let deadline = latest(items);
    let working = async {
        let mut conn = ledger.pool.lease(deadline).await?;
        let done = work(&mut conn).await?;
        conn.give_back();
        Ok::<_, StoreError>(done)
    };
    let done = AssertUnwindSafe(timeout_at(deadline, working)).catch_unwind().await.ok()?.ok()?;
    done.inspect_err(|error| ledger.pool.note(error)).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::Instant};
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{
            caller::Caller,
            command::{Action, Command, Reserve, ReserveMode, Target},
            event::{Counters, Definition, Event, EventState},
            ids::{EventId, ReservationId, UserId},
            limits::Labels,
            snapshot::Snapshot,
            time::Timestamp,
        },
        store::apply::Written,
    };

    const CAPACITY: u32 = 5;
    /// As many connections as a new memory takes for granted.
    const CONNECTIONS: u64 = 0;

    fn item(event_id: &str, action: Action) -> Item {
        let command = Command {
            event_id: EventId::parse(event_id).expect("valid"),
            action,
            etag: None,
            request: None,
            caller: Caller::default(),
        };
        let now = Instant::now();
        let (answer, _) = oneshot::channel();
        Item { command, submitted: now, deadline: now + Duration::from_secs(60), left_out: 0, answer, _place: None }
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("valid")
    }

    /// One that waits for its turn.
    pub(in crate::ops::coalesced) fn reserve(event_id: &str, name: &str) -> Item {
        let (id, mode) = (ReservationId(Uuid::now_v7()), ReserveMode::Hold(None));
        let reserve = Reserve { id, user_id: user(name), quantity: 1, mode, labels: Labels::default() };
        item(event_id, Action::Reserve(reserve))
    }

    fn reading(event_ids: &[&str]) -> Context {
        let time = Timestamp::from_micros(1).expect("a moment");
        let event = |id: &&str| Event {
            id: EventId::parse(id).expect("valid"),
            definition: Definition { capacity: CAPACITY, ..Definition::default() },
            state: EventState::Open,
            cancel_reason: None,
            counters: Counters { version: 1, ..Counters::default() },
            create_time: time,
            update_time: time,
        };
        let snapshots = event_ids.iter().map(event).map(|event| (event.id.clone(), Snapshot::new(event))).collect();
        Context { now: time, snapshots }
    }

    async fn decided(read: Context, ahead: Option<&Trail>, items: &[Item]) -> Draft {
        let books = Books::upon(read, ahead, items).expect("it fits");
        Draft::of(None, items, books).await.expect("nothing is read")
    }

    async fn trail(items: &[Item]) -> Trail {
        decided(reading(&["e", "f"]), None, items).await.finish(items).trail.expect("it is the first to ask")
    }

    /// A memory of `e` and `f` with a reservation each, and a batch that is being written: one more in `e`.
    async fn memory_and_ahead() -> (Memory, Trail) {
        let first = [reserve("e", "first"), reserve("f", "first")];
        let mut memory = Memory::new(10);
        memory.learn(trail(&first).await, &Written::default());
        let ahead = [reserve("e", "ahead")];
        let context = remembered(&mut memory, &ahead);
        let ahead = decided(context, None, &ahead).await.finish(&ahead).trail.expect("it is the first to ask");
        (memory, ahead)
    }

    /// As a recall, however slow this machine is.
    fn remembered(memory: &mut Memory, items: &[Item]) -> Context {
        let known = |item| memory.known_for(item, CONNECTIONS).expect("it is remembered").clone();
        let snapshots = items.iter().map(known).map(|event| (event.id.clone(), Snapshot::new(event))).collect();
        Context { now: reading(&[]).now, snapshots }
    }

    async fn open(memory: &mut Memory, ahead: &Trail, items: &[Item]) -> Draft {
        decided(remembered(memory, items), Some(ahead), items).await
    }

    fn what_it_does(plan: Plan) -> Vec<(String, Counters)> {
        let events = plan.trail.expect("it is the first to ask").into_events();
        events.map(|(id, event)| (id.to_string(), event.counters)).collect()
    }

    #[tokio::test]
    async fn who_is_taken_in_comes_behind_those_who_were_there() {
        let (mut memory, ahead) = memory_and_ahead().await;
        let mut items = vec![reserve("e", "bob")];
        let mut draft = open(&mut memory, &ahead, &items).await;
        for item in [reserve("e", "cid"), reserve("f", "bob"), reserve("e", "dan")] {
            assert!(draft.takes_in(&mut memory, CONNECTIONS, &item, &ahead));
            items.push(item);
        }
        assert_eq!((&draft.is_presumed[..], draft.presumed_with), (&[false, true, true, true][..], Some(CONNECTIONS)));
        let plan = draft.finish(&items);
        assert!(plan.fates.iter().all(|fate| matches!(fate, Fate::Decided(Ok(Decision::Commit(_))))));
        let counters = |held, version| Counters { held, version, ..Counters::default() };
        // One first, in `e` one ahead, and those who were taken in.
        let expected = vec![("e".to_owned(), counters(5, 6)), ("f".to_owned(), counters(2, 3))];
        assert_eq!(what_it_does(plan), expected);
    }

    #[tokio::test]
    async fn who_would_have_to_be_read_for_is_not_taken_in() {
        let (mut memory, ahead) = memory_and_ahead().await;
        let mut items = vec![reserve("e", "bob"), reserve("e", "cid")];
        let mut draft = open(&mut memory, &ahead, &items).await;
        let cancel = Action::Cancel { target: Target::User(user("bob")), quantity: None, reason: None };
        let late = reserve("f", "late");
        let late = Item { deadline: late.submitted, ..late };
        for (why, item) in [
            ("nothing is remembered of its event", reserve("g", "ann")),
            ("it has a reservation in this batch", reserve("e", "bob")),
            ("it is no Reserve", item("e", cancel)),
            ("its time is over", late),
        ] {
            assert!(!draft.takes_in(&mut memory, CONNECTIONS, &item, &ahead), "{why}");
        }
        let last = reserve("e", "dan");
        assert!(draft.takes_in(&mut memory, CONNECTIONS, &last, &ahead), "there is one place more");
        items.push(last);
        assert!(!draft.takes_in(&mut memory, CONNECTIONS, &reserve("e", "eve"), &ahead), "there are no more places");
        assert!(!draft.takes_in(&mut memory, CONNECTIONS + 1, &reserve("f", "eve"), &ahead), "a connection was made");
        // None of them has left anything behind.
        let counters = Counters { held: 5, version: 6, ..Counters::default() };
        assert_eq!(what_it_does(draft.finish(&items)), [("e".to_owned(), counters)]);
    }

    #[tokio::test]
    async fn nobody_is_taken_in_where_something_was_put_off_or_is_in_doubt() {
        let (mut memory, ahead) = memory_and_ahead().await;
        let items = [reserve("e", "bob")];
        let draft = open(&mut memory, &ahead, &items).await;
        let mut incomplete = Draft { is_complete: false, ..draft };
        assert!(!incomplete.takes_in(&mut memory, CONNECTIONS, &reserve("f", "eve"), &ahead));
        let mut draft = Draft { is_complete: true, ..incomplete };
        let lost = Written { lost: [EventId::parse("f").expect("valid")].into(), ..Written::default() };
        memory.learn(trail(&[reserve("f", "mistaken")]).await, &lost);
        assert!(!draft.takes_in(&mut memory, CONNECTIONS, &reserve("f", "eve"), &ahead));
        assert!(draft.takes_in(&mut memory, CONNECTIONS, &reserve("e", "eve"), &ahead));
    }

    #[tokio::test]
    async fn nobody_is_taken_in_where_somebody_waits() {
        let (mut memory, ahead) = memory_and_ahead().await;
        let mut draft = open(&mut memory, &ahead, &[reserve("e", "bob")]).await;
        let mut read = reading(&["f"]);
        for snapshot in read.snapshots.values_mut() {
            snapshot.event.counters.waiting = 1;
            snapshot.event.definition.waitlist.newcomers_may_overtake = true;
        }
        let other = [reserve("f", "other")];
        let trail = decided(read, None, &other).await.finish(&other).trail;
        memory.learn(trail.expect("it is the first to ask"), &Written::default());
        assert!(!draft.takes_in(&mut memory, CONNECTIONS, &reserve("f", "eve"), &ahead));
        assert!(draft.takes_in(&mut memory, CONNECTIONS, &reserve("e", "eve"), &ahead));
    }

    #[tokio::test]
    async fn an_event_that_others_changed_meanwhile_is_not_decided_on() {
        let (mut memory, ahead) = memory_and_ahead().await;
        let items = [reserve("f", "bob")];
        let mut draft = open(&mut memory, &ahead, &items).await;
        // What is remembered is neither from before the batch ahead nor from after it.
        let others = [reserve("e", "one"), reserve("e", "two"), reserve("e", "three")];
        memory.learn(trail(&others).await, &Written::default());
        assert!(!draft.takes_in(&mut memory, CONNECTIONS, &reserve("e", "eve"), &ahead));
        assert!(draft.takes_in(&mut memory, CONNECTIONS, &reserve("f", "eve"), &ahead));
    }
}
