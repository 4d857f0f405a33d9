//! Overlays the defaults, which differ on a network, with the file, the environment and the flags.

use std::{fs, io::ErrorKind, net::SocketAddr, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Toml},
    util::nest,
    value::{Dict, Map, Value},
};

use super::{
    explain::{ENVIRONMENT, explain},
    problems::ConfigError,
    settings::{Config, DEFAULTS, NETWORK_DEFAULTS, is_loopback},
};

/// The settings of a command line, as `section.key` and value.
pub type Flags = Vec<(String, String)>;

/// Settings that were renamed: the old key and the new one. An old key is refused.
const RENAMED: [(&str, &str); 8] = [
    ("server.max_large_answers", "server.max_large_responses"),
    ("server.answer_timeout", "server.response_timeout"),
    ("execution.remembered_events", "execution.cached_events"),
    ("holds.sweep_interval", "expiry.interval"),
    ("holds.sweep_batch", "expiry.batch"),
    ("waitlist.serve_interval", "waitlist.promotion_interval"),
    ("strategy.join_waitlist", "strategy.waitlist"),
    ("strategy.leave_waitlist", "strategy.waitlist"),
];

/// Well-known environment variables that set reservd's settings too.
const WELL_KNOWN: [(&str, &str); 4] = [
    ("DATABASE_URL", "database.url"),
    ("RABBITMQ_URL", "broker.url"),
    ("REDIS_URL", "sessions.url"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
];

/// Environment variables that are options of commands, without RESERVD_.
const OPTIONS: [&str; 7] = ["config", "address", "ca", "certificate", "key", "token", "token_file"];

/// The settings from one place.
struct Layer {
    place: String,
    settings: Dict,
}

impl Layer {
    /// A line for each setting that has another name today.
    fn renamed(&self) -> impl Iterator<Item = String> {
        let settings = Value::from(self.settings.clone());
        let renamed = RENAMED.iter().filter(move |(old, _)| settings.find_ref(old).is_some());
        renamed.map(|(old, new)| format!("unknown setting {old}, set {}: it is {new} now", self.place))
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}

impl Config {
    /// Loads the defaults, then `file`, then the environment, then `flags`.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut layers = Vec::new();
        if let Some(file) = file {
            let settings = of_file(file).map_err(|problem| ConfigError(vec![problem]))?;
            layers.push(Layer { place: format!("in {}", file.display()), settings });
        }
        layers.extend(of_environment());
        layers.extend(flags.iter().map(|(key, text)| one(key, text, "on the command line".to_owned())));
        let renamed: Vec<_> = layers.iter().flat_map(Layer::renamed).collect();
        if !renamed.is_empty() {
            return Err(ConfigError(renamed));
        }
        let overlaid = |defaults: Figment| layers.iter().fold(defaults, Figment::merge);
        let defaults = Figment::from(Toml::string(DEFAULTS));
        let mut figment = overlaid(defaults.clone());
        // An address that can't be read is reported below.
        if figment.extract_inner("server.listen").is_ok_and(|listen: SocketAddr| !is_loopback(listen)) {
            figment = overlaid(defaults.merge(Toml::string(NETWORK_DEFAULTS)));
        }
        let config: Self = figment
            .extract()
            .map_err(|errors| ConfigError(errors.into_iter().map(|error| explain(&error, &figment)).collect()))?;
        config.check()?;
        Ok(config)
    }
}

fn of_file(file: &Path) -> Result<Dict, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no configuration file {name}"),
        _ => format!("cannot read the configuration file {name}: {error}"),
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("{name} is not valid TOML: line {line}: {}", error.message().replace('\n', ", "))
    })?;
    let value = Value::serialize(table).map_err(|error| format!("{name}: {error}"))?;
    Ok(value.into_dict().unwrap_or_default())
}

fn of_environment() -> Vec<Layer> {
    let place = |name: &str| format!("{ENVIRONMENT}{name})");
    let well_known = WELL_KNOWN.iter().flat_map(|(name, key)| {
        Env::raw().only(&[name]).iter().map(move |(_, text)| one(key, &text, place(name))).collect::<Vec<_>>()
    });
    let own = Env::prefixed("RESERVD_").split("__");
    let own = own
        .iter()
        .filter(|(key, text)| !is_for_others(key.as_str(), text))
        .map(|(key, text)| one(key.as_str(), &text, place(&variable(key.as_str()))));
    well_known.chain(own).collect()
}

/// The variable that sets a setting.
fn variable(key: &str) -> String {
    format!("RESERVD_{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Whether a variable that begins with RESERVD_ is no setting, but an option of a command or one of Kubernetes. All
/// settings have two underscores in their variables, between section and key, which are a dot here; these have none.
fn is_for_others(key: &str, value: &str) -> bool {
    OPTIONS.contains(&key) || !key.contains('.') && is_service_link(key, value)
}

/// Whether a variable has the form of those that Kubernetes sets in every container for each service of its namespace,
/// here for those whose names begin with `reservd`: NAME_SERVICE_HOST, NAME_SERVICE_PORT and that with the name of a
/// port, NAME_PORT with a URL, NAME_PORT_80_TCP and that with PROTO, PORT or ADDR.
fn is_service_link(key: &str, value: &str) -> bool {
    let words: Vec<&str> = key.split('_').collect();
    (0..words.len()).any(|start| match &words[start..] {
        ["service", "host"] | ["service", "port", ..] => true,
        ["port"] => value.contains("://"),
        ["port", number, "tcp" | "udp" | "sctp", rest @ ..] => {
            number.parse::<u16>().is_ok() && matches!(rest, [] | ["proto" | "port" | "addr"])
        }
        _ => false,
    })
}

/// One setting, given as text. A setting whose default is text stays text even if it looks like a number.
fn one(key: &str, text: &str, place: String) -> Layer {
    let value = match Figment::from(Toml::string(DEFAULTS)).find_value(key) {
        Ok(Value::String(..)) => Value::from(text),
        _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
    };
    Layer { place, settings: nest(key, value).into_dict().unwrap_or_default() }
}

#[cfg(test)]
mod tests;
