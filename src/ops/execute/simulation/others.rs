//! Who else changes the database during a run: writers that are no server of ours, the expiry of holds, and failovers.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    caller::{Server, event_id, user_id},
    check::has_change,
    state::Shared,
};
use crate::{
    domain::{
        caller::Caller,
        command::{Action, Command, Reserve, ReserveMode},
        ids::{EventId, ReservationId, Target},
        limits::Labels,
    },
    ops::{OpError, execute::execute_own},
};

fn command(event_id: EventId, action: Action) -> Command {
    Command { event_id, action, etag: None, expected_event_version: None, request: None, caller: Caller::default() }
}

async fn think(shared: &Shared, most: u64) {
    let millis = shared.with(|state| state.rng.u64(..most));
    sleep(Duration::from_millis(millis)).await;
}

/// Locks an event now and then, for a while, and sometimes changes it.
pub(super) async fn write_beside(shared: Shared, events: u8, times: u32) {
    for _ in 0..times {
        think(&shared, 60).await;
        let (who, event_id) = shared.with(|state| (state.next_id(), event_id(state.rng.u8(..events))));
        if !shared.lock(who, &event_id, Some(Duration::from_millis(500))).await {
            continue;
        }
        let (epoch, world) = shared.with(|state| (state.epoch, state.worlds.get(&event_id).cloned()));
        think(&shared, 30).await;
        let mut written = BTreeMap::new();
        if let Some(mut world) = world.filter(|_| shared.with(|state| state.rng.u8(..3) > 0)) {
            let command = command(event_id.clone(), an_action(&shared));
            if world.carry_out(&command, shared.now()).is_ok() {
                written.insert(event_id, world);
            }
        }
        shared.trace("another writer", written.len() as u64);
        shared.end(who, epoch, written, true);
    }
}

fn an_action(shared: &Shared) -> Action {
    shared.with(|state| {
        let id = ReservationId(Uuid::from_u128(u128::from(state.next_id()) << 4));
        let rng = &mut state.rng;
        let user_id = user_id(rng.u8(..6));
        let target = Target::User(user_id.clone());
        match rng.u8(..6) {
            0..3 => {
                let (quantity, labels) = (rng.u32(1..3), Labels::default());
                let mode = ReserveMode::Hold(Some(Duration::from_millis(rng.u64(1..80))));
                Action::Reserve(Reserve { id, user_id, quantity, mode, labels })
            }
            3 => Action::Confirm { target, quantity: None },
            4 => Action::Cancel { target, quantity: Some(1), reason: None },
            _ => Action::Cancel { target, quantity: None, reason: None },
        }
    })
}

/// Releases holds whose time is over, a few times, as the worker of a server does.
pub(super) async fn expire(shared: Shared, server: Server, times: u32) {
    for _ in 0..times {
        think(&shared, 60).await;
        let now = shared.now();
        let mut commands: Vec<_> = shared.with(|state| {
            let rows = state.worlds.values().flat_map(|world| world.rows.values());
            let lapsed = rows.filter(|row| row.has_lapsed(now));
            lapsed.map(|row| command(row.event_id.clone(), Action::Expire(row.id))).collect()
        });
        commands.sort_by_key(|command| command.target().map(|target| format!("{target:?}")));
        shared.trace("expiry", commands.len() as u64);
        if commands.is_empty() {
            continue;
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        match execute_own(&server.env, commands, deadline, Duration::from_millis(100)).await {
            Ok(changes) => {
                let missing = changes.iter().find(|change| !has_change(&shared, change));
                if let Some(change) = missing {
                    shared.violation(format!("expiry returned a change that is not in the history: {change:?}"));
                }
            }
            Err(error @ (OpError::Unexpected(_) | OpError::Lost | OpError::Crashed(_))) => {
                shared.violation(format!("expiry met a defect: {error:?}"));
            }
            Err(_) => {}
        }
    }
}

/// Lets the primary fail, a few times.
pub(super) async fn fail_over(shared: Shared, times: u32) {
    for _ in 0..times {
        think(&shared, if shared.hostility.loses { 40 } else { 200 }).await;
        shared.fail_over();
        shared.trace("failover", 0);
    }
}
