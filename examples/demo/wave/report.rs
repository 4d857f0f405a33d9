//! The outcome as tables for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use reservd::rpc::pb::ReservationState;

use super::{Outcome, audit::Sum};

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The wave, by kind of call\n{}\n", self.calls())?;
        writeln!(f, "Refused, by reason\n{}\n", self.refusals())?;
        writeln!(f, "Its reservations, by state\n{}\n", self.states())?;
        writeln!(f, "The audit\n{}", self.ledger())
    }
}

impl Outcome {
    fn calls(&self) -> Table {
        let mut table = table(&["call", "sent", "done", "replayed", "refused"]);
        let mut sum = [0; 4];
        for (call, count) in &self.tally.calls {
            let row = [count.done + count.replayed + count.refused, count.done, count.replayed, count.refused];
            table.add_row([format!("{call:?}")].into_iter().chain(row.map(grouped)));
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        table.add_row(["all".to_owned()].into_iter().chain(sum.map(grouped)));
        table
    }

    fn refusals(&self) -> Table {
        let mut table = table(&["reason", "calls"]);
        let mut refusals: Vec<_> = self.tally.refusals.iter().collect();
        refusals.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        for (reason, count) in refusals {
            table.add_row([reason.clone(), grouped(*count)]);
        }
        table
    }

    fn states(&self) -> Table {
        let mut table = table(&["state", "reservations", "seats"]);
        for (name, state) in [
            ("sold (CONFIRMED)", ReservationState::Confirmed),
            ("held", ReservationState::Held),
            ("cancelled", ReservationState::Cancelled),
            ("expired", ReservationState::Expired),
        ] {
            let Sum { reservations, seats } = self.audit.by_state.get(&state).copied().unwrap_or_default();
            table.add_row([name.to_owned(), grouped(reservations), grouped(seats)]);
        }
        table
    }

    fn ledger(&self) -> Table {
        let (tally, audit) = (&self.tally, &self.audit);
        let sent: u64 = tally.calls.values().map(|count| count.done + count.replayed + count.refused).sum();
        let seconds = self.took.as_secs_f64();
        let mut table = table(&["what", "result"]);
        let mut row = |what: &str, result: String| {
            table.add_row([what.to_owned(), result]);
        };
        row("flights, seats", format!("{}, {}", grouped(audit.flights), grouped(audit.seats)));
        row("seats sold, held", format!("{}, {}", grouped(audit.confirmed), grouped(audit.held)));
        row("the flight of the rush", format!("{}, {} seats", self.rush.event_id, self.rush.capacity));
        row("VerifyEvent clean", of(audit.clean_flights, audit.flights));
        row("acknowledged and found again", of(audit.found_again, tally.acknowledged.len()));
        row("problems", grouped(self.problems().len()));
        row("for information", format!("{:.0} calls a second, {seconds:.1} s", sent as f64 / seconds));
        table
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn of(part: usize, whole: usize) -> String {
    format!("{} of {}", grouped(part), grouped(whole))
}

/// 75204 as 75,204.
fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(0).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
