//! Overlays the defaults, which differ on a network, with the file, the environment and the flags. Each problem is one line with the key
//! and the place where it is set; for an unknown key it names the closest setting, for a renamed key the new
//! name. A message never quotes a line of a file, which may hold a secret.

use std::{fs, io::ErrorKind, net::SocketAddr, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::{Actual, Kind},
    providers::{Env, Format, Toml},
    util::nest,
    value::{Dict, Map, Value},
};

use super::{
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
            .map_err(|errors| ConfigError(errors.into_iter().map(|error| explain(&error)).collect()))?;
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
    let place = |name: &str| format!("in the environment ({name})");
    let well_known = WELL_KNOWN.iter().flat_map(|(name, key)| {
        Env::raw().only(&[name]).iter().map(move |(_, text)| one(key, &text, place(name))).collect::<Vec<_>>()
    });
    let own = Env::prefixed("RESERVD_").split("__");
    let own = own.iter().filter(|(key, _)| !is_for_others(key.as_str())).map(|(key, text)| {
        let name = key.as_str().to_ascii_uppercase().replace('.', "__");
        one(key.as_str(), &text, place(&format!("RESERVD_{name}")))
    });
    well_known.chain(own).collect()
}

/// Variables that begin with RESERVD_ but are not settings: command-line options, and the variables that
/// Kubernetes sets in every container for a service named reservd.
fn is_for_others(key: &str) -> bool {
    ["config", "address", "port", "token", "ca"].contains(&key)
        || key.starts_with("port_")
        || key.starts_with("service_")
}

/// One setting, given as text. A setting whose default is text stays text even if it looks like a number.
fn one(key: &str, text: &str, place: String) -> Layer {
    let value = match Figment::from(Toml::string(DEFAULTS)).find_value(key) {
        Ok(Value::String(..)) => Value::from(text),
        _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
    };
    Layer { place, settings: nest(key, value).into_dict().unwrap_or_default() }
}

/// One line for one error.
fn explain(error: &figment::Error) -> String {
    let place = error.metadata.as_ref().map_or_else(String::new, |found| format!(", set {}", found.name));
    match &error.kind {
        Kind::UnknownField(name, _) => {
            let mut path = error.path.clone();
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            format!("unknown setting {}{place}: did you mean {}?", path.join("."), nearest(&path))
        }
        Kind::UnknownVariant(found, known) => {
            format!("{} is {found:?}{place}: must be one of {}", error.path.join("."), known.join(", "))
        }
        // Text may be a URL with a password that was set one level too high.
        Kind::InvalidType(Actual::Str(_), expected) | Kind::InvalidValue(Actual::Str(_), expected) => {
            format!("{}: found other text, expected {expected}{place}", error.path.join("."))
        }
        kind => format!("{}: {kind}{place}", error.path.join(".")),
    }
}

/// The section or setting closest to an unknown one; among equals, one of the same section.
fn nearest(path: &[String]) -> String {
    let (section, name) = match path {
        [section, .., name] => (section.as_str(), name.as_str()),
        [name] => ("", name.as_str()),
        [] => ("", ""),
    };
    let mut known = Vec::new();
    for (section, settings) in DEFAULTS.parse::<toml::Table>().unwrap_or_default() {
        known.extend(settings.as_table().into_iter().flatten().map(|(name, _)| (section.clone(), name.clone())));
        known.push((String::new(), section));
    }
    known
        .into_iter()
        .min_by_key(|(of, known)| (strsim::damerau_levenshtein(known, name), of != section))
        .map_or_else(String::new, |(of, known)| if of.is_empty() { known } else { format!("{of}.{known}") })
}

#[cfg(test)]
mod tests;
