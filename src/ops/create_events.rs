//! CreateEvent and BatchCreateEvents: all of the events, or none.

use std::collections::{HashMap, HashSet};

use tokio::time::{Instant, timeout_at};

use super::{Ledger, OpError};
use crate::{
    domain::{
        caller::Actor,
        change::{Change, ChangeKind, EventRecord, Subject},
        event::{Counters, Definition, Event, EventState},
        ids::{EventId, Request},
        refusal::{FirstUse, Refusal},
        time::Timestamp,
    },
    store::{Budget, Pool, StoreError, Tx, changes, events},
};

/// An event to be created.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// What the client says about it.
    pub definition: Definition,
    /// Open or closed.
    pub state: EventState,
    /// Makes the creation safe to repeat.
    pub request: Option<Request>,
    /// Who asked for it.
    pub actor: Option<Actor>,
}

/// An event that was created.
#[derive(Clone, Debug)]
pub struct Created {
    /// The event, as it was when created.
    pub event: Event,
    /// Whether an earlier call with the same request_id created it.
    pub replayed: bool,
}

/// A refusal is the result of a statement that succeeded.
type Ruled<T> = Result<Result<T, Refusal>, StoreError>;

impl Ledger {
    /// Creates the events, each id once, and returns them in the same order; or creates none. With `validate_only` the
    /// answer is the same and nothing is created.
    pub async fn create_events(
        &self,
        wanted: Vec<NewEvent>,
        validate_only: bool,
        deadline: Instant,
    ) -> Result<Vec<Created>, OpError> {
        let ledger = self.clone();
        self.env
            .spawn_tracked(async move {
                let max_lock_wait = ledger.env.settings.max_lock_wait;
                let budget = Budget { asked: Instant::now(), deadline, max_lock_wait };
                let attempt = || create_once(&ledger.env.database, &wanted, validate_only, budget);
                let created = timeout_at(deadline, ledger.env.repeat_if_undone(deadline, attempt));
                Ok(created.await.map_err(|_| OpError::Deadline)???)
            })
            .await
    }
}

async fn create_once(pool: &Pool, wanted: &[NewEvent], validate_only: bool, budget: Budget) -> Ruled<Vec<Created>> {
    let mut tx = pool.begin("create_events", budget).await?;
    let result = create(&mut tx, wanted).await;
    tx.finish(result, |created| created.is_ok() && !validate_only).await
}

async fn create(tx: &mut Tx, wanted: &[NewEvent]) -> Ruled<Vec<Created>> {
    let now = events::now(tx).await?;
    let mut news: Vec<(Event, &NewEvent)> = wanted.iter().map(|new| (first_version(new, now), new)).collect();
    // In id order, so that two batches that share ids wait for each other one way only.
    news.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    let events: Vec<_> = news.iter().map(|(event, _)| event).collect();
    let inserted: HashSet<EventId> = events::create(tx, &events).await?.into_iter().collect();

    let mut results: HashMap<EventId, Created> = HashMap::with_capacity(wanted.len());
    if inserted.len() < wanted.len() {
        match told_again(tx, wanted, &inserted).await? {
            Ok(replayed) => results.extend(replayed),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    news.retain(|(event, _)| !results.contains_key(&event.id));
    let deleted = news.iter_mut().map(|(event, _)| event).filter(|event| !inserted.contains(&event.id));
    if let Err(refusal) = replace_deleted(tx, deleted.collect()).await? {
        return Ok(Err(refusal));
    }
    let births: Vec<Change> = news.iter().map(|(event, new)| birth(event, new)).collect();
    events::record_creation(tx, &births).await?;
    results.extend(news.into_iter().map(|(event, _)| (event.id.clone(), Created { event, replayed: false })));
    Ok(Ok(wanted.iter().filter_map(|new| results.remove(&new.id)).collect()))
}

/// The events that the same requests created before, as they were then; or why the requests differ.
async fn told_again(tx: &mut Tx, wanted: &[NewEvent], inserted: &HashSet<EventId>) -> Ruled<Vec<(EventId, Created)>> {
    let there: Vec<_> = wanted.iter().filter(|new| !inserted.contains(&new.id)).collect();
    let requests: Vec<_> =
        there.iter().filter_map(|new| new.request.as_ref().map(|request| (&new.id, &request.id))).collect();
    // A statement of its own: the insert waited for the transaction that was first, and its snapshot is older than
    // that transaction's commit.
    let records = changes::by_request(tx, &requests).await?;
    let records: HashMap<_, _> = records.into_iter().map(|change| (change.event_id().clone(), change)).collect();

    let mut replayed = Vec::new();
    for new in there {
        match records.get(&new.id) {
            Some(change) if change.request != new.request => {
                // Who may create events may not see users' reservations for that.
                return Ok(Err(Refusal::RequestIdReused(Box::new(FirstUse::of(change, false)))));
            }
            Some(Change { subject: Subject::Event(record), .. }) => {
                replayed.push((new.id.clone(), Created { event: record.event.clone(), replayed: true }));
            }
            _ => {}
        }
    }
    Ok(Ok(replayed))
}

/// Creates events in the place of deleted ones, whose versions they continue; or says which were not deleted.
async fn replace_deleted(tx: &mut Tx, mut news: Vec<&mut Event>) -> Ruled<()> {
    if news.is_empty() {
        return Ok(Ok(()));
    }
    let ids: Vec<_> = news.iter().map(|event| &event.id).collect();
    let deleted: HashMap<EventId, i64> = events::lock_deleted(tx, &ids).await?.into_iter().collect();
    let existing: Vec<_> = ids.into_iter().filter(|id| !deleted.contains_key(*id)).cloned().collect();
    if !existing.is_empty() {
        return Ok(Err(Refusal::EventExists(existing)));
    }
    for event in &mut news {
        let version = deleted.get(&event.id).map_or(1, |last| last + 1);
        event.counters.version = version;
        event.definition_version = version;
    }
    events::replace_deleted(tx, &news.iter().map(|event| &**event).collect::<Vec<_>>()).await?;
    Ok(Ok(()))
}

fn first_version(new: &NewEvent, now: Timestamp) -> Event {
    Event {
        id: new.id.clone(),
        definition: new.definition.clone(),
        state: new.state,
        cancel_reason: None,
        counters: Counters { version: 1, ..Counters::default() },
        create_time: now,
        definition_version: 1,
        update_time: now,
    }
}

fn birth(event: &Event, new: &NewEvent) -> Change {
    let record = EventRecord { event: event.clone(), cancelled_reservations: 0, ended_entries: 0 };
    let subject = Subject::Event(Box::new(record));
    Change {
        request: new.request.clone(),
        actor: new.actor.clone(),
        ..Change::new(event.counters.version, ChangeKind::EventCreated, event.create_time, subject)
    }
}
