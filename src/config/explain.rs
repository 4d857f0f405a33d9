//! What is wrong with a setting that can't be read: one line with its key, its value, the place where it is set, and what
//! it should be. For an unknown key it names the setting that is meant, if one is close. No message quotes a line of a
//! file, or the value of a setting that may be a secret.

use std::net::SocketAddr;

use figment::{Figment, error::Kind};
use toml::Value;

use super::settings::DEFAULTS;

/// How the place of a setting begins that is an environment variable: its name and `)` follow.
pub(super) const ENVIRONMENT: &str = "in the environment (";

/// Keys whose values may be secrets.
const SECRET: [&str; 4] = ["url", "key", "jwks", "otlp_endpoint"];

/// One line for one error of these settings.
pub(super) fn explain(error: &figment::Error, settings: &Figment) -> String {
    let found = error.metadata.as_ref().map(|found| found.name.as_ref()).unwrap_or_default();
    let place = if found.is_empty() { String::new() } else { format!(", set {found}") };
    match &error.kind {
        Kind::UnknownField(name, _) => {
            let mut path = error.path.clone();
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            format!("unknown setting {}{place}: {}", path.join("."), advice(&path, found))
        }
        kind => {
            let (key, is) = shown(&error.path, settings);
            let problem = match kind {
                Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
                _ => expectation(&key, &is).unwrap_or_else(|| unexpected(kind)),
            };
            format!("{key} is {is}{place}: it {problem}")
        }
    }
}

/// A key, and its value as it is written in a file. What is wrong with an item of a list is wrong with the list.
fn shown(path: &[String], settings: &Figment) -> (String, String) {
    let setting = &path[..path.len().min(2)];
    let key = setting.join(".");
    let is_secret = setting.last().is_some_and(|name| SECRET.contains(&name.as_str()));
    let value = settings.find_value(&key).ok().and_then(|value| Value::try_from(&value).ok());
    let value = value.map_or_else(|| "no value".to_owned(), |value| value.to_string());
    // Also a URL that was set in the wrong place may have a password.
    let is_url = value.contains("://") || value.contains('@');
    (key, if is_secret || is_url { "***".to_owned() } else { value })
}

/// What is wrong with a value that has no example. A value of another type is not quoted.
fn unexpected(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if expected.starts_with("struct") => {
            "must be a section of settings".to_owned()
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("must be {expected}"),
        kind => kind.to_string(),
    }
}

/// What a value must be, with an example: that of its default.
fn expectation(key: &str, is: &str) -> Option<String> {
    let (section, name) = key.split_once('.')?;
    let default = DEFAULTS.parse::<toml::Table>().ok()?.get(section)?.get(name)?.clone();
    Some(match default {
        Value::Boolean(_) => "must be true or false".to_owned(),
        Value::Integer(number) => format!("must be a whole number in digits, such as {number}"),
        Value::Array(list) => format!("must be a list, such as {}", Value::Array(list)),
        Value::Table(_) => "must be a table".to_owned(),
        Value::String(text) if text.parse::<SocketAddr>().is_ok() => {
            // The address that the most common name has.
            let local = is.trim_matches('"').strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            format!("must be an IP address and a port, such as {}; a name is no address", local.unwrap_or(text))
        }
        Value::String(text) if humantime::parse_duration(&text).is_ok() => {
            format!("must be a duration with its unit, such as \"{text}\"")
        }
        _ => return None,
    })
}

/// What to do about an unknown setting.
fn advice(path: &[String], place: &str) -> String {
    let variable = place.strip_prefix(ENVIRONMENT).and_then(|rest| rest.strip_suffix(')'));
    let Some((section, name)) = nearest(path) else {
        return "`reservd config --defaults` has every setting".to_owned();
    };
    match (variable, section.as_str()) {
        // Only the section is wrong.
        (Some(variable), "") => {
            let key = variable.split_once("__").map_or("", |(_, key)| key);
            format!("did you mean RESERVD_{}__{key}?", name.to_ascii_uppercase())
        }
        (Some(_), section) => {
            format!("did you mean RESERVD_{}__{}?", section.to_ascii_uppercase(), name.to_ascii_uppercase())
        }
        (None, "") => format!("did you mean {name}?"),
        (None, section) => format!("did you mean {section}.{name}?"),
    }
}

/// The section, or the section and the name of the setting, closest to an unknown one, if one is close; among equals,
/// one of the same section.
fn nearest(path: &[String]) -> Option<(String, String)> {
    let (section, name) = match path {
        [section, .., name] => (section.as_str(), name.as_str()),
        [name] => ("", name.as_str()),
        [] => return None,
    };
    let mut known = Vec::new();
    for (section, settings) in DEFAULTS.parse::<toml::Table>().unwrap_or_default() {
        known.extend(settings.as_table().into_iter().flatten().map(|(name, _)| (section.clone(), name.clone())));
        known.push((String::new(), section));
    }
    let distance = |of: &str, known: &str| {
        // In a variable, one underscore in place of two joins section and key.
        let joined = strsim::damerau_levenshtein(&format!("{of}_{known}"), name);
        strsim::damerau_levenshtein(known, name).min(joined)
    };
    let ranked = known.into_iter().map(|(of, known)| ((distance(&of, &known), of != section), (of, known)));
    let ((distance, _), found) = ranked.min_by_key(|(rank, _)| *rank)?;
    (distance * 3 <= name.len()).then_some(found)
}
