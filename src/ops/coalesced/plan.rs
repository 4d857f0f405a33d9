//! From a batch to its plan: what is read, or remembered, and then decided, and how the plan is written.

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
    /// It was decided.
    Decided(Plan),
}

/// What was decided for a batch, ready to be written.
pub(super) struct Plan {
    pub(super) fates: Vec<Fate>,
    /// None: there is nothing to write.
    pub(super) writing: Option<Alone>,
    /// What it does, until somebody asks.
    trail: Option<Trail>,
    /// Whether some of it was presumed, and then when so many connections had been made.
    pub(super) presumed_with: Option<u64>,
}

impl Stage {
    /// The stage that `items` can be brought to while the batch `ahead` of them is written: read, and
    /// decided as if that had been written already. If in the end it was not, this is void. None: the
    /// reading is of no use.
    pub(super) async fn ahead(ledger: &Ledger, memory: &Mutex<Memory>, items: &[Item], ahead: &Trail) -> Option<Self> {
        if let Some(plan) = Plan::presuming(ledger, memory, items, Some(ahead)).await {
            return Some(Self::Decided(plan));
        }
        let staged = on_a_connection(ledger, items, async |conn| {
            let read = context::load_without_holds(conn, &commands(items)).await?;
            let Some(books) = Books::upon(read, Some(ahead), items) else { return Ok(None) };
            // Who gets the places that come free is read as the batch ahead will have left it.
            if books.somebody_waits() {
                return Ok(Some(Self::Read(books)));
            }
            Ok(Some(Self::Decided(Plan::of(Some(conn), items, books, &[]).await?)))
        });
        staged.await.flatten()
    }

    /// The stage after this one, if there is any. Where that fails it is as good as none.
    pub(super) async fn decided(self, ledger: &Ledger, memory: &Mutex<Memory>, items: &[Item]) -> Self {
        let plan = match self {
            Self::Decided(plan) => Some(plan),
            stage => {
                let presumed = match &stage {
                    Self::Fresh => Plan::presuming(ledger, memory, items, None).await,
                    _ => None,
                };
                match presumed {
                    Some(plan) => Some(plan),
                    None => on_a_connection(ledger, items, async |conn| stage.plan(conn, items).await).await.flatten(),
                }
            }
        };
        plan.map_or(Self::Fresh, Self::Decided)
    }

    /// Whether it rests on what was presumed when fewer connections had been made.
    pub(super) fn is_outdated(&self, connections: u64) -> bool {
        matches!(self, Self::Decided(Plan { presumed_with: Some(before), .. }) if *before != connections)
    }

    /// Brings a batch from this stage to a plan. None: an event changed while it was read.
    pub(super) async fn plan(self, conn: &mut PgConnection, items: &[Item]) -> Result<Option<Plan>, StoreError> {
        let books = match self {
            Self::Decided(plan) => return Ok(Some(plan)),
            Self::Read(books) => books,
            Self::Fresh => match context::load(conn, &commands(items)).await? {
                Some(context) => Books::new(context),
                None => return Ok(None),
            },
        };
        Plan::of(Some(conn), items, books, &[]).await.map(Some)
    }

    /// What it will do; to be asked once. None: it is not decided.
    pub(super) fn trail(&mut self) -> Option<Trail> {
        if let Self::Decided(plan) = self { plan.trail.take() } else { None }
    }

    pub(super) const fn is_decided(&self) -> bool {
        matches!(self, Self::Decided(_))
    }
}

impl Plan {
    async fn of(
        conn: Option<&mut PgConnection>,
        items: &[Item],
        mut books: Books,
        is_presumed: &[bool],
    ) -> Result<Self, StoreError> {
        let fates = books.decide_all(conn, items, By::Version).await?;
        let decided = books.decided(items, &fates);
        let trail = Some(books.trail(&decided));
        let presumed = items.iter().zip(&fates).zip(is_presumed).filter(|(_, is_presumed)| **is_presumed);
        let presumed: Vec<_> = presumed.filter_map(|((item, fate), _)| presumption(item, fate)).collect();
        let writing = (!decided.is_empty()).then(|| Alone::new(&decided, &presumed));
        Ok(Self { fates, writing, trail, presumed_with: None })
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
        let plan = Self::of(None, items, books, &is_presumed).await.ok()?;
        let is_yes = |fate: &Fate| matches!(fate, Fate::Decided(Ok(_)) | Fate::Late);
        if plan.fates.iter().zip(&is_presumed).any(|(fate, is_presumed)| *is_presumed && !is_yes(fate)) {
            return None;
        }
        let presumed = is_presumed.iter().filter(|is_presumed| **is_presumed).count();
        ledger.metrics.batch_presumed.inc_by(presumed as u64);
        Some(Self { presumed_with: Some(connections), ..plan })
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
