//! Checks the invariants of an event continuously during a test, on a connection of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::{TestServer, soon};

/// A snapshot of an event by one statement: counters, and sums over its rows.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Sight {
    pub state: String,
    pub capacity: i32,
    pub held: i32,
    pub confirmed: i32,
    pub version: i64,
    pub held_rows: i64,
    pub confirmed_rows: i64,
    /// The highest number of live reservations of one user.
    pub most_of_a_user: i64,
    pub waiting: i32,
    pub waiting_rows: i64,
    /// Whether units are free that fit the next waitlist entry.
    pub is_idle: bool,
}

/// A running observer.
pub struct Observer {
    stop: Arc<AtomicBool>,
    work: JoinHandle<Vec<Sight>>,
}

impl Observer {
    /// Starts to observe. The first snapshot is complete when this returns.
    pub async fn of(server: &TestServer, event_id: &str) -> Self {
        let (mut sql, event_id) = (server.sql().await, event_id.to_owned());
        let mut seen = vec![Sight::of(&mut sql, &event_id).await];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            loop {
                let is_last = stopped.load(Ordering::Acquire);
                let sight = Sight::of(&mut sql, &event_id).await;
                if let Some(before) = seen.last() {
                    assert!(before.version <= sight.version, "{before:?} came before {sight:?}");
                }
                if seen.last() != Some(&sight) {
                    seen.push(sight);
                }
                if is_last {
                    return seen;
                }
            }
        });
        Self { stop, work }
    }

    /// Takes a last snapshot, and returns all distinct snapshots.
    pub async fn finish(self) -> Vec<Sight> {
        self.stop.store(true, Ordering::Release);
        soon("the observer ends", self.work).await.unwrap_or_else(|found| std::panic::resume_unwind(found.into_panic()))
    }
}

impl Sight {
    async fn of(sql: &mut PgConnection, event_id: &str) -> Self {
        const SQL: &str = "
            SELECT e.state, e.capacity, e.held, e.confirmed, e.version,
                   COALESCE(sum(r.units) FILTER (WHERE r.state = 'HELD'), 0)::bigint AS held_rows,
                   COALESCE(sum(r.units) FILTER (WHERE r.state = 'CONFIRMED'), 0)::bigint AS confirmed_rows,
                   COALESCE(max(r.of_user), 0) AS most_of_a_user, e.waiting,
                   (SELECT count(*) FROM waitlist w WHERE w.event_id = e.event_id AND w.state = 'WAITING') AS waiting_rows,
                   EXISTS (
                       SELECT FROM (
                           SELECT w.min_quantity <= e.capacity - e.held - e.confirmed AS fits,
                                  row_number() OVER line AS place, first_value(w.skips) OVER line AS skips
                             FROM waitlist w WHERE w.event_id = e.event_id AND w.state = 'WAITING'
                           WINDOW line AS (ORDER BY w.ticket)) l
                        WHERE l.fits AND (l.place = 1 OR l.skips < (e.waitlist_policy ->> 'max_skips')::integer)
                   ) AND e.state = 'OPEN' AS is_idle
              FROM events e
              LEFT JOIN (SELECT state, sum(quantity) AS units, max(of_user) AS of_user
                           FROM (SELECT state, quantity, count(*) OVER (PARTITION BY user_id) AS of_user
                                   FROM reservations
                                  WHERE event_id = $1 AND state IN ('HELD', 'CONFIRMED')) live
                          GROUP BY state) r ON true
             WHERE e.event_id = $1 GROUP BY e.event_id";
        let sight: Self = sqlx::query_as(SQL).bind(event_id).fetch_one(sql).await.expect("the event can be read");
        sight.check();
        sight
    }

    fn check(&self) {
        assert!(self.held + self.confirmed <= self.capacity, "oversold by the counters: {self:?}");
        assert!(self.held_rows + self.confirmed_rows <= i64::from(self.capacity), "oversold by the rows: {self:?}");
        assert_eq!(
            (i64::from(self.held), i64::from(self.confirmed)),
            (self.held_rows, self.confirmed_rows),
            "the counters differ from the rows: {self:?}"
        );
        assert!(self.most_of_a_user <= 1, "a user has two live reservations: {self:?}");
        assert_eq!(i64::from(self.waiting), self.waiting_rows, "the count of waitlist entries: {self:?}");
        assert!(!self.is_idle, "free units fit the next waitlist entry: {self:?}");
    }
}
