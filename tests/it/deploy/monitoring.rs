//! The alert rules and the dashboard.

use std::collections::BTreeSet;

use reservd::telemetry::metrics::Metrics;
use serde_json::Value;
use tokio::process::Command;

use super::{assert_went_well, yaml};
use crate::support::process::{checkout, finish};

/// Whether a server has this metric, or exposes it as a part of a histogram.
fn exists(name: &str) -> bool {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    let declared = |name: &str, kind: Option<&str>| {
        Metrics::DECLARATIONS.iter().any(|it| it.name == name && kind.is_none_or(|kind| it.kind == kind))
    };
    let page = std::fs::read_to_string(checkout("docs/METRICS.md")).expect("there is a page");
    declared(name, None)
        || histogram.is_some_and(|name| declared(name, Some("histogram")))
        || page.contains(&format!("\n| `{name}` |"))
}

/// The metrics that an expression names.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("reservd_") || word.starts_with("process_"))
}

/// The labels in the selectors and groupings of an expression.
fn labels_in(expression: &str) -> BTreeSet<&str> {
    let selectors = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let selected = selectors.flat_map(|all| all.split(", ")).filter_map(|one| one.split(['=', '!']).next());
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    selected.chain(groups.flat_map(|all| all.split(", "))).collect()
}

#[track_caller]
fn check(expression: &str) {
    let metrics: Vec<_> = metrics_in(expression).collect();
    // The label of a server that is up is Prometheus' own.
    assert!(!metrics.is_empty() || expression.contains("up{"), "{expression} is about nothing");
    for name in metrics {
        assert!(exists(name), "{expression}: there is no metric {name}");
    }
    let known: BTreeSet<_> = Metrics::DECLARATIONS.iter().flat_map(|it| it.labels).copied().collect();
    for label in labels_in(expression) {
        assert!(known.contains(label) || ["job", "instance", "le"].contains(&label), "{expression}: no label {label}");
    }
}

/// The expressions below a value.
fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).into_iter();
            own.chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

async fn promtool(arguments: &[&str], file: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).arg(checkout(file)).kill_on_drop(true);
    assert_went_well(&finish(command).await);
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_on_metrics_that_exist() {
    promtool(&["check", "rules"], "deploy/prometheus/alerts.yml").await;
    promtool(&["test", "rules"], "deploy/prometheus/alerts.test.yml").await;
    let rules = yaml("deploy/prometheus/alerts.yml").await;
    let found = expressions(&rules[0]);
    assert!(found.len() >= 8, "{found:?}");
    found.into_iter().for_each(check);
}

#[tokio::test]
async fn every_alert_is_tested_to_fire_and_to_be_quiet() {
    let (rules, tests) = (yaml("deploy/prometheus/alerts.yml").await, yaml("deploy/prometheus/alerts.test.yml").await);
    let cases: Vec<_> = tests[0]["tests"].as_array().expect("tests").iter().flat_map(cases_of).collect();
    for rule in rules[0]["groups"][0]["rules"].as_array().expect("rules") {
        let of_rule: Vec<_> = cases.iter().filter(|(name, _)| rule["alert"] == **name).collect();
        assert!(of_rule.iter().any(|(_, fires)| *fires) && of_rule.iter().any(|(_, fires)| !fires), "{rule}");
    }
}

#[tokio::test]
async fn the_operators_page_says_of_every_alert_what_to_do() {
    let rules = yaml("deploy/prometheus/alerts.yml").await;
    let page = std::fs::read_to_string(checkout("docs/OPERATIONS.md")).expect("there is a page");
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| Reservd")?.split_once(" |")).collect();
    let explained: Vec<_> = rows.iter().map(|(name, _)| format!("Reservd{name}")).collect();
    let alerts = rules[0]["groups"][0]["rules"].as_array().expect("rules").iter();
    assert_eq!(alerts.map(|rule| rule["alert"].as_str().expect("a name")).collect::<Vec<_>>(), explained);
}

/// Each alert of a test, and whether it is to fire.
fn cases_of(test: &Value) -> Vec<(&Value, bool)> {
    let cases = test["alert_rule_test"].as_array().expect("cases");
    let fires = |case: &Value| !case["exp_alerts"].as_array().expect("alerts").is_empty();
    cases.iter().map(|case| (&case["alertname"], fires(case))).collect()
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let text = std::fs::read_to_string(checkout("deploy/grafana/reservd.json")).expect("there is a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let found = expressions(&dashboard);
    assert!(found.len() >= 20, "{found:?}");
    found.into_iter().for_each(check);
    // Of what one looks at first, nothing is missing.
    for name in ["reservd_rpcs_total", "reservd_expiry_lag_seconds", "reservd_relay_lag_seconds"] {
        assert!(text.contains(name), "{name}");
    }
}
