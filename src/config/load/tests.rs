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
fn a_key_that_is_close_to_none_gets_no_suggestion() {
    for unknown in ["server.colour", "nonsense.x", "x"] {
        let problem = problem(unknown, "x");
        assert!(problem.ends_with(": `reservd config --defaults` has every setting"), "{problem}");
    }
}

#[test]
fn a_wrong_value_is_shown_with_what_it_must_be_and_an_example() {
    for (key, value, expected) in [
        (
            "server.listen",
            "localhost:50051",
            "is \"localhost:50051\", set on the command line: it must be an IP address and a port, such as \
             127.0.0.1:50051; a name is no address",
        ),
        (
            "expiry.interval",
            "soon",
            "is \"soon\", set on the command line: it must be a duration with its unit, such as \"200ms\"",
        ),
        (
            "server.max_in_flight",
            "many",
            "is \"many\", set on the command line: it must be a whole number in digits, such as 1024",
        ),
        ("database.migrate", "perhaps", "is \"perhaps\", set on the command line: it must be true or false"),
        ("retention.changes", "1h", "must be from 1 day to 10 years, and is 1 hour"),
    ] {
        assert_eq!(problem(key, value), format!("{key} {expected}"));
    }
}

#[test]
fn a_value_that_may_be_secret_is_not_shown() {
    let problem = problem("database.url.x", "canary");
    assert!(!problem.contains("canary"), "{problem}");
}

#[test]
fn variables_of_the_form_that_kubernetes_uses_are_no_settings() {
    for (key, value) in [
        ("service_host", "10.0.0.1"),
        ("service_port", "50051"),
        ("service_port_grpc", "50051"),
        ("port", "tcp://10.0.0.1:50051"),
        ("port_50051_tcp", "tcp://10.0.0.1:50051"),
        ("port_50051_tcp_proto", "tcp"),
        ("port_50051_tcp_port", "50051"),
        ("port_50051_tcp_addr", "10.0.0.1"),
        ("server_service_host", "10.0.0.1"),
        ("console_port", "tcp://10.0.0.1:80"),
        ("my_console_port_80_udp_addr", "10.0.0.1"),
    ] {
        assert!(is_for_others(key, value), "{key}");
    }
    for (key, value) in [
        ("port", "50051"),
        ("server_port", "50051"),
        ("server_listen", "127.0.0.1:1"),
        ("server.service_host", "10.0.0.1"),
        ("port_grpc_tcp", "x"),
        ("service", "x"),
    ] {
        assert!(!is_for_others(key, value), "{key}");
    }
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
        ("events.booking_close", "late"),
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
