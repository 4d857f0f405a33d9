//! Tests of loading and its error messages.

use super::*;

fn problem(key: &str, value: &str) -> String {
    Config::load(None, &vec![(key.into(), value.into())]).expect_err(key).to_string()
}

#[test]
fn an_unknown_key_names_the_nearest_right_one() {
    for (unknown, right) in [
        ("server.listn", "server.listen"),
        ("servr.listen", "server"),
        ("listen", "server.listen"),
        ("server.max_connections", "database.max_connections"),
        ("strategy.extnd", "strategy.extend"),
    ] {
        let problem = problem(unknown, "x");
        assert!(problem.ends_with(&format!("did you mean {right}?")), "{problem}");
    }
    assert!(problem("server.listn", "x").starts_with("unknown setting server.listn, set on the command line:"));
}

#[test]
fn a_renamed_key_is_refused_with_its_new_name() {
    for (old, new) in RENAMED {
        let problem = problem(old, "1");
        assert_eq!(problem, format!("unknown setting {old}, set on the command line: it is {new} now"));
        assert!(Figment::from(Toml::string(DEFAULTS)).find_value(new).is_ok(), "{new} is a setting");
    }
}

#[test]
fn the_documented_defaults_are_valid() {
    Config::load(None, &Vec::new()).expect("the defaults are within bounds");
}

#[test]
fn a_wrong_value_names_its_key() {
    for (key, value) in [
        ("server.listen", "nowhere"),
        ("server.max_in_flight", "many"),
        ("expiry.interval", "soon"),
        ("strategy.reserve", "MAYBE"),
        ("retention.changes", "1h"),
        ("database.migrate", "perhaps"),
    ] {
        let problem = problem(key, value);
        assert!(problem.starts_with(key) && !problem.contains(".rs"), "{key}: {problem}");
    }
}

#[test]
fn text_may_look_like_a_number() {
    let flags = vec![("embedded.data_dir".into(), "2030".into()), ("telemetry.service_name".into(), "true".into())];
    let config = Config::load(None, &flags).expect("both are text");
    assert_eq!((config.embedded.data_dir.as_str(), config.telemetry.service_name.as_str()), ("2030", "true"));
}
