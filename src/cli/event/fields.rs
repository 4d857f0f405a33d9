//! The fields of an event as flags, of the same names and with the same values as in a CSV file.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::super::event_file::columns::Column;
use crate::rpc::pb::Event;

/// The flags, and what each is. The table of columns says how its value reads.
const FLAGS: [(&str, &str); 20] = [
    ("display-name", "Its name, for people"),
    ("series-id", "The series that it belongs to"),
    ("series-display-name", "The name of its series, for people"),
    ("venue-id", "Where it takes place"),
    ("venue-display-name", "The name of its venue, for people"),
    ("start-time", "When it starts, such as 2030-05-01T19:30:00+02:00"),
    ("end-time", "When it ends"),
    ("booking-open-time", "When it begins to take reservations"),
    ("booking-close-time", "From when on it takes none: a time, never, or a rule such as start-30m"),
    ("max-quantity", "The most units of one reservation"),
    ("hold-ttl-default", "How long a hold lasts that does not say, such as 10m"),
    ("hold-ttl-max", "The longest hold"),
    ("max-extensions", "How often a hold may be extended"),
    ("waitlist-enabled", "Whether users may wait once it is sold out"),
    ("waitlist-max-size", "How many may wait"),
    ("waitlist-offer-ttl", "How long an offer to a waiting user lasts"),
    ("waitlist-order", "Which entry comes next"),
    ("waitlist-max-skips", "How often an entry that does not fit may be skipped"),
    ("waitlist-newcomers-may-overtake", "Whether a Reserve may take units that no entry fits"),
    ("waitlist-join-before-booking", "Whether users may wait before booking opens"),
];

/// The fields that UpdateEvent knows below `limits`.
const LIMITS: [&str; 4] = ["max_quantity", "hold_ttl_default", "hold_ttl_max", "max_extensions"];

/// Fields of an event that a command line gives.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(&'static str, String)>);

fn column(flag: &str) -> Column {
    Column::of(flag).expect("every flag is a column")
}

impl Fields {
    /// Sets the fields of an event.
    pub fn apply(&self, event: &mut Event) -> Result<(), String> {
        self.0.iter().try_for_each(|(flag, value)| {
            let column = column(flag);
            // An empty value is the default, not what was there before.
            column.clear(event);
            column.read(event, value)
        })
    }

    /// The paths of the fields, as UpdateEvent knows them. It takes the waitlist as a whole, and one of two fields that
    /// say when booking closes.
    pub fn paths(&self) -> Vec<String> {
        let paths = |(flag, _): &(&str, String)| match column(flag).name() {
            name if name.starts_with("waitlist_") => vec!["waitlist".to_owned()],
            name if name == "booking_close_time" => vec![name, "booking_close".to_owned()],
            name if LIMITS.contains(&name.as_str()) => vec![format!("limits.{name}")],
            name => vec![name],
        };
        let mut paths: Vec<_> = self.0.iter().flat_map(paths).collect();
        paths.dedup();
        paths
    }
}

impl FromArgMatches for Fields {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|(flag, _)| Some((*flag, matches.get_one::<String>(flag)?.clone())));
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Fields {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|(flag, help)| {
            let column = column(flag);
            let arg = Arg::new(*flag).long(*flag).help(*help).value_name(column.kind()).help_heading("Fields");
            arg.allow_hyphen_values(true)
                .value_parser(move |text: &str| column.read(&mut Event::default(), text).map(|()| text.to_owned()))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests;
