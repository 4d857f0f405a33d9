//! The limit of live holds that one user may have over all events.
//!
//! Events are locked one by one, so no lock covers all of a user's. Instead the Reserves of one user
//! take turns on this server while there is a limit, each counts before it is carried out, and `decide`
//! is told whether the limit is reached: so it says no where it would else say yes, and a repetition
//! gets its answer still. That is exact on one server; of calls that come to n servers at the same
//! moment, n - 1 more may get through.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::timeout_at};

use super::{
    Ledger, OpError,
    execute::{Answer, ExecOptions},
};
use crate::{
    domain::{
        command::{Action, Command, Reserve, ReserveMode},
        ids::UserId,
    },
    store::reservations,
};

type Turns = HashMap<UserId, Arc<tokio::sync::Mutex<()>>>;

/// The limit, and whose turn it is.
#[derive(Clone, Default)]
pub(super) struct HoldLimit {
    /// 0: none.
    limit: u32,
    turns: Arc<Mutex<Turns>>,
}

/// A user's turn.
pub(super) struct Turn {
    user: UserId,
    turns: Arc<Mutex<Turns>>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        // One is the table's, one the guard's: nobody else waits.
        if turns.get(&self.user).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            turns.remove(&self.user);
        }
    }
}

impl HoldLimit {
    pub(super) fn of(limit: u32) -> Self {
        Self { limit, turns: Arc::default() }
    }

    /// Whether it has to be looked at for this command.
    pub(super) const fn applies_to(&self, command: &Command) -> bool {
        self.limit > 0 && matches!(&command.action, Action::Reserve(Reserve { mode: ReserveMode::Hold(_), .. }))
    }

    async fn turn(&self, user: &UserId) -> Turn {
        let turn = Arc::clone(self.turns.lock().entry(user.clone()).or_default());
        Turn { user: user.clone(), turns: Arc::clone(&self.turns), _turn: turn.lock_owned().await }
    }
}

impl Ledger {
    /// Carries a Reserve out in its user's turn, and tells it whether the user has come to the limit. In
    /// a task of its own: the turn lasts until the command is done, whoever hangs up.
    pub(super) async fn execute_in_turn(&self, mut command: Command, options: ExecOptions) -> Result<Answer, OpError> {
        let Action::Reserve(wish) = &command.action else { return self.execute_now(command, options).await };
        let (ledger, user, limit) = (self.clone(), wish.user_id.clone(), self.hold_limit.limit);
        self.env
            .spawn_tracked(async move {
                let turn = timeout_at(options.deadline, ledger.hold_limit.turn(&user)).await;
                let _turn = turn.map_err(|_| OpError::Deadline)?;
                let count = ledger.read(options.deadline, move |conn| {
                    Box::pin(async move { reservations::live_holds(conn, &user, limit).await })
                });
                command.caller.hold_limit_reached = (count.await? >= i64::from(limit)).then_some(limit);
                ledger.execute_now(command, options).await
            })
            .await
    }
}
