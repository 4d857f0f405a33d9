//! `reservd top`: the events with the most load, again and again.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, sleep};

use super::{
    client::{Client, Paging},
    event::{Filters, name_of_state},
    failure::Failure,
    output::{print, print_json},
    table::{Column, Table},
    wire::Wire,
};
use crate::rpc::pb::{Event, event_service_client::EventServiceClient};

/// Moves the cursor home and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The options of `reservd top`.
#[derive(Debug, Args)]
#[command(after_help = "\
The load of an event is its changes a second since the last look, and then how much of it is taken. On a terminal the
table is refreshed until Ctrl-C; elsewhere it is printed once, unless --count says otherwise.")]
pub struct Top {
    /// Show this many events
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    events: usize,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Look this many times, then end
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    filters: Filters,
}

/// The events at one time, with their versions.
struct Look {
    at: Instant,
    versions: HashMap<String, i64>,
}

/// An event, and its changes a second since the look before, if there was one.
struct Loaded {
    event: Event,
    rate: Option<f64>,
}

impl Top {
    /// Shows the events until the count is reached.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = EventServiceClient::new(self.client.target.connect().await?);
        let is_live = io::stdout().is_terminal() && !self.client.format.json;
        let count = self.count.or(if is_live { None } else { Some(1) });
        let mut before: Option<Look> = None;
        for number in 1.. {
            let events = self.events(&mut client).await?;
            let now = Look { at: Instant::now(), versions: versions(&events) };
            let loaded = self.by_load(events, before.as_ref(), now.at);
            if is_live {
                print(CLEAR)?;
            }
            self.show(&loaded)?;
            if count == Some(number) {
                break;
            }
            before = Some(now);
            sleep(self.interval).await;
        }
        Ok(())
    }

    async fn events(&self, client: &mut EventServiceClient<Wire>) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        let page = async |size, token| {
            let page = client.list_events(self.filters.request(size, token)).await?.into_inner();
            Ok((page.events, page.next_page_token))
        };
        let each = |page: Vec<Event>| {
            events.extend(page);
            Ok(())
        };
        Paging::ALL.run(page, each).await?;
        Ok(events)
    }

    /// The events with the most load, the busiest first.
    fn by_load(&self, events: Vec<Event>, before: Option<&Look>, now: Instant) -> Vec<Loaded> {
        let mut loaded: Vec<_> = events
            .into_iter()
            .map(|event| {
                let rate = before.map(|look| {
                    let seen = look.versions.get(&event.event_id).copied().unwrap_or(0);
                    (event.version - seen) as f64 / (now - look.at).as_secs_f64()
                });
                Loaded { event, rate }
            })
            .collect();
        loaded.sort_by_cached_key(|Loaded { event, rate }| {
            let rate = rate.map_or(0, |rate| (rate * 1000.0) as i64);
            (Reverse(rate), Reverse(permille(event)), event.event_id.clone())
        });
        loaded.truncate(self.events);
        loaded
    }

    fn show(&self, loaded: &[Loaded]) -> Result<(), Failure> {
        if self.client.format.json {
            return loaded.iter().try_for_each(|it| print_json("reservd.v1.Event", &it.event));
        }
        let mut table = Table::new(&[
            Column::Text("EVENT"),
            Column::Text("STATE"),
            Column::Number("CHANGES/S"),
            Column::Number("TAKEN"),
            Column::Number("HELD"),
            Column::Number("CONFIRMED"),
            Column::Number("FREE"),
            Column::Number("WAITING"),
            Column::Text("NAME"),
        ]);
        loaded.iter().for_each(|it| table.row(row(it)));
        print(table)
    }
}

fn versions(events: &[Event]) -> HashMap<String, i64> {
    events.iter().map(|event| (event.event_id.clone(), event.version)).collect()
}

/// How much of an event is taken, in thousandths.
fn permille(event: &Event) -> i64 {
    let counts = event.counts.unwrap_or_default();
    let taken = i64::from(counts.capacity) - i64::from(counts.available);
    if counts.capacity == 0 { 1000 } else { taken * 1000 / i64::from(counts.capacity) }
}

fn row(Loaded { event, rate }: &Loaded) -> Vec<String> {
    let counts = event.counts.unwrap_or_default();
    vec![
        event.event_id.clone(),
        name_of_state(event.state()),
        rate.map_or_else(String::new, |rate| format!("{rate:.1}")),
        format!("{}%", permille(event) / 10),
        counts.held.to_string(),
        counts.confirmed.to_string(),
        counts.available.to_string(),
        counts.waiting.to_string(),
        event.display_name.clone(),
    ]
}
