//! The audit of one event: its counters, rows and changes must agree.

use super::event::EventState;

/// The sums of one event's rows, read in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAudit {
    /// The event's state.
    pub state: EventState,
    /// Units in all.
    pub capacity: u32,
    /// The held counter, which may be wrong: the audit finds that out.
    pub held: i64,
    /// The confirmed counter.
    pub confirmed: i64,
    /// The event's version.
    pub version: i64,
    /// Units in HELD rows.
    pub held_rows: i64,
    /// Of these, units in holds past their expire time.
    pub lapsed_rows: i64,
    /// Units in CONFIRMED rows.
    pub confirmed_rows: i64,
    /// Users with more than one live row.
    pub users_booked_twice: i64,
    /// The version of the newest change; zero if none is kept.
    pub newest_change: i64,
    /// Changes missing between the oldest kept and the newest.
    pub missing_changes: i64,
    /// The counter of waitlist entries that wait.
    pub waiting: i64,
    /// Waitlist entries that wait.
    pub waiting_rows: i64,
    /// Of these, entries of users who have a live reservation.
    pub waiting_though_reserved: i64,
    /// Whether free places fit a waiting entry whose turn it is.
    pub is_unserved: bool,
}

impl EventAudit {
    /// What is wrong, a sentence each; nothing if all agrees.
    pub fn problems(&self) -> Vec<String> {
        let Self { held, confirmed, version, .. } = *self;
        let mut problems = Vec::new();
        let mut check = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        check(held == self.held_rows, format!("{held} units counted as held, {} in rows", self.held_rows));
        check(
            confirmed == self.confirmed_rows,
            format!("{confirmed} units counted as confirmed, {} in rows", self.confirmed_rows),
        );
        let reserved = self.held_rows + self.confirmed_rows;
        check(
            reserved <= i64::from(self.capacity),
            format!("oversold: {reserved} units reserved of {}", self.capacity),
        );
        check(
            self.users_booked_twice == 0,
            format!("{} users have more than one live reservation", self.users_booked_twice),
        );
        check(
            self.newest_change == version,
            format!("the event is at version {version}, its newest change at {}", self.newest_change),
        );
        check(self.missing_changes == 0, format!("{} changes are missing from the history", self.missing_changes));
        check(
            self.waiting == self.waiting_rows,
            format!("{} waitlist entries counted, {} in rows", self.waiting, self.waiting_rows),
        );
        check(
            self.waiting_though_reserved == 0,
            format!("{} users wait for what they have reserved", self.waiting_though_reserved),
        );
        check(!self.is_unserved, "units are free that fit a waiting entry whose turn it is".to_owned());
        check(
            self.state != EventState::Cancelled || self.waiting_rows == 0,
            format!("the event is cancelled, and {} entries still wait", self.waiting_rows),
        );
        check(
            self.state != EventState::Cancelled || reserved == 0,
            format!("the event is cancelled, and {reserved} units are still reserved"),
        );
        problems
    }
}

#[cfg(test)]
mod tests;
