//! A table that has been in use: millions of reservations, written by set-based SQL and not by the
//! service, in the state that the service would have left them in, history included.

use indicatif::ProgressBar;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{Failure, stage::Stage};

/// Reservations of each event.
pub const PER_EVENT: u64 = 10;
/// Events written in one transaction.
const BATCH: u32 = 10_000;

/// How full a table to make.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Reservations, in a tenth as many events.
    pub reservations: u64,
}

impl Fill {
    /// How many events have them.
    pub fn events(self) -> u32 {
        u32::try_from(self.reservations / PER_EVENT).unwrap_or(u32::MAX / 2).max(1)
    }

    /// The database that is so full.
    pub fn database(self) -> String {
        format!("reservd_bench_filled_{}", self.reservations)
    }

    /// Fills the table, unless an earlier run has done so.
    pub async fn apply(self, stage: &Stage, bar: &ProgressBar) -> Result<(), Failure> {
        let mut sql = stage.sql().await?;
        if is_done(&mut sql).await? {
            return Ok(());
        }
        stage.create_events(0, false).await?;
        let events = self.events();
        let mut first = 1;
        while first <= events {
            let last = events.min(first + BATCH - 1);
            bar.set_message(format!("filling the table: {} of {} reservations", (first - 1) * 10, events * 10));
            sqlx::query(include_str!("sql/fill_events.sql"))
                .bind(as_int(first))
                .bind(as_int(last))
                .execute(&mut sql)
                .await?;
            sqlx::query(include_str!("sql/fill_reservations.sql"))
                .bind(as_int(first))
                .bind(as_int(last))
                .bind(i64::from(events) * 10)
                .execute(&mut sql)
                .await?;
            first = last + 1;
        }
        // As the table would be after some days: statistics made, hint bits set, pages on disk.
        bar.set_message("filling the table: vacuum");
        sqlx::raw_sql("VACUUM (ANALYZE) events, reservations, changes").execute(&mut sql).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("COMMENT ON DATABASE {} IS 'filled'", self.database())))
            .execute(&mut sql)
            .await?;
        Ok(())
    }
}

fn as_int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

async fn is_done(sql: &mut PgConnection) -> Result<bool, Failure> {
    const SQL: &str = "-- bench::is_filled
        SELECT shobj_description(oid, 'pg_database') IS NOT DISTINCT FROM 'filled'
          FROM pg_database WHERE datname = current_database()";
    Ok(sqlx::query_scalar(SQL).fetch_one(sql).await?)
}
