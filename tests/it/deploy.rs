//! What is in `deploy/` and `compose.yaml`: valid, locked down, and about metrics that exist.

mod monitoring;

use serde_json::Value;
use tokio::process::Command;

use crate::support::process::{CommandOutput, checkout, finish, tool};

/// The documents of a YAML file.
async fn yaml(path: &str) -> Vec<Value> {
    const PRINT_JSON: &str =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1]))), default=str))";
    let mut python = tool("python/bin/python");
    python.args(["-c", PRINT_JSON]).arg(checkout(path));
    let output = finish(python).await;
    serde_json::from_str(&output.out).unwrap_or_else(|_| panic!("{path}: {output:?}"))
}

#[track_caller]
fn assert_went_well(output: &CommandOutput) {
    assert_eq!(output.code, Some(0), "\n{}\n{}", output.out, output.err);
}

/// The manifests by name.
fn manifests() -> Vec<String> {
    let folder = std::fs::read_dir(checkout("deploy/kubernetes")).expect("there are manifests");
    let mut names: Vec<_> =
        folder.map(|file| format!("kubernetes/{}", file.expect("readable").file_name().display())).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_manifests_are_valid_and_the_base_has_all_of_them() {
    let mut validate = tool("python/bin/kubernetes-validate");
    validate.args(["--strict", "--quiet"]).args(manifests().iter().map(|name| checkout("deploy").join(name)));
    assert_went_well(&finish(validate).await);
    let base = yaml("deploy/kustomization.yaml").await.remove(0);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut listed: Vec<_> = base["resources"].as_array().expect("resources").iter().map(text).collect();
    listed.sort();
    assert_eq!(listed, manifests());
    for file in base["configMapGenerator"][0]["files"].as_array().expect("files") {
        assert!(checkout("deploy").join(text(file)).exists(), "{file}");
    }
}

/// The parts of all manifests.
async fn resources() -> Vec<Value> {
    let mut resources = Vec::new();
    for name in manifests() {
        resources.extend(yaml(&format!("deploy/{name}")).await);
    }
    resources
}

#[tokio::test]
async fn pods_run_as_an_ordinary_user_that_can_write_nothing() {
    let resources = resources().await;
    let pods: Vec<_> = resources.iter().map(|it| &it["spec"]["template"]["spec"]).filter(|it| it.is_object()).collect();
    assert_eq!(pods.len(), 2, "the servers and the migration");
    for pod in pods {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{pod}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!((&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]), (&false.into(), &false.into()));
        for containers in ["initContainers", "containers"] {
            for container in pod[containers].as_array().into_iter().flatten() {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["capabilities"]["drop"][0], "ALL");
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}

/// Every environment variable that is a setting of ours, by name.
fn settings_of(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.keys().cloned().chain(fields.get("name").and_then(Value::as_str).map(str::to_owned));
            own.chain(fields.values().flat_map(settings_of)).filter(|name| name.starts_with("RESERVD_")).collect()
        }
        Value::Array(items) => items.iter().flat_map(settings_of).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_settings_that_they_set_exist() {
    let defaults: toml::Table = include_str!("../../src/defaults.toml").parse().expect("TOML");
    let mut files = resources().await;
    files.extend(yaml("compose.yaml").await);
    let names: Vec<_> = files.iter().flat_map(settings_of).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let (section, key) = name["RESERVD_".len()..].split_once("__").expect("a section and a key");
        assert!(defaults[&section.to_lowercase()].get(key.to_lowercase()).is_some(), "{name} is no setting");
    }
}

#[tokio::test]
async fn a_pod_has_more_time_to_stop_than_its_calls() {
    let resources = resources().await;
    let deployment = resources.iter().find(|it| it["kind"] == "Deployment").expect("there are servers");
    let pod = &deployment["spec"]["template"]["spec"];
    let pause: u64 = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]
        .as_str()
        .expect("seconds")
        .parse()
        .expect("a number");
    let drain_limit = reservd::config::Config::load(None, &Vec::new()).expect("the defaults").server.drain_limit;
    assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds") >= pause + drain_limit.as_secs() + 10);
}

#[tokio::test]
async fn the_containers_of_compose_are_locked_down() {
    let file = yaml("compose.yaml").await.remove(0);
    let services = file["services"].as_object().expect("services");
    assert_eq!(services.len(), 4);
    for (name, service) in services {
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        // RabbitMQ's image writes its own settings when it starts.
        assert_eq!(service["read_only"] == true, name != "rabbitmq", "{name}");
        assert!(name == "reservd" || service["user"].is_string(), "{name}");
    }
}

/// The exposure that systemd sees, from 0 to 10. Where there is no systemd, there is nothing to ask.
#[tokio::test]
async fn the_systemd_unit_exposes_little() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(checkout("deploy/systemd/reservd.service"));
    let Ok(output) = analyze.kill_on_drop(true).output().await else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.split("exposure level for reservd.service:").nth(1).unwrap_or_else(|| panic!("{output:?}"));
    let level: f64 = told.split_whitespace().next().expect("a level").parse().expect("a number");
    assert!(level < 3.0, "{text}");
}
