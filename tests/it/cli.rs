//! The commands of the program: config, migrate, healthcheck, probe and help.

use std::path::Path;

use nix::sys::signal::Signal;
use reservd::config::DEFAULTS;
use sqlx::Executor;

use crate::support::{
    TestDatabase, TestServer, eventually,
    process::{Process, TempFolder, finish, postmaster, program, run},
};

/// The settings in force, as `reservd config` prints them.
async fn printed(variables: &[(&str, &str)], arguments: &[&str]) -> toml::Table {
    let mut command = program(["config"]);
    command.args(arguments).envs(variables.iter().copied());
    let output = finish(command).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
    output.out.parse().expect("it prints TOML")
}

fn listen(table: &toml::Table) -> &str {
    table["server"]["listen"].as_str().expect("text")
}

#[tokio::test]
async fn config_prints_the_settings_without_secrets() {
    for url in [
        "postgres://me:canary@db.example/x",
        "postgres://me@db.example/x?password=canary",
        "host=db.example password=canary",
    ] {
        let mut command = program(["config"]);
        command.env("DATABASE_URL", url);
        let output = finish(command).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.out.contains("***") && !output.out.contains("canary"), "{}", output.out);
    }
    let output = run(&["config", "--set", "database.url=postgres://me:canary@db.example/x"]).await;
    assert!(output.out.contains("postgres://***@db.example/x"), "{}", output.out);
}

#[tokio::test]
async fn config_prints_no_secret_of_any_url_however_it_is_written() {
    for setting in [
        "telemetry.otlp_endpoint=https://me:canary@spans.example",
        "telemetry.otlp_endpoint=https://canary@spans.example:4317/v1",
        "telemetry.otlp_endpoint=https://spans.example/v1?key=canary",
        "telemetry.otlp_endpoint=https://spans.example/v1#canary",
        "telemetry.otlp_endpoint=https://spans.example/canary/v1",
        "database.url=postgres://db.example/x/canary",
        "broker.url=amqps://mq.example/canary%2fx",
        "sessions.url=rediss://cache.example/0/canary",
        "database.url=postgres://me:canary?1@db.example/x",
        "database.url=postgres://me:12/canary@db.example/x",
        "database.url=postgres://me:12#canary@db.example/x",
        "database.url=postgres:me:canary@db.example/x",
        "database.url=postgres:///x?password=canary",
        "auth.jwks=https://canary@id.example/keys",
        "auth.jwks=https://id.example/keys#canary",
    ] {
        let output = run(&["config", "--set", "auth.issuer=x", "--set", setting]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.out.contains("***") && !output.out.contains("canary"), "{setting}: {}", output.out);
    }
    let refused = [
        "auth.jwks=https:canary@id.example/keys",
        "telemetry.otlp_endpoint=canary://:spans",
        "database=postgres://me:canary@db.example/x",
        "database.max_connections=postgres://me:canary@db.example/x",
    ];
    for refused in refused {
        let output = run(&["config", "--set", "auth.issuer=x", "--set", refused]).await;
        assert!(output.code == Some(1) && !output.err.contains("canary"), "{refused}: {output:?}");
    }
}

#[tokio::test]
async fn rates_are_limited_by_default_where_other_machines_reach_the_server() {
    let rate = |table: &toml::Table, key: &str| table["limits"][key].as_integer().expect("a number");
    for key in ["principal_rate", "address_rate", "watches_per_principal"] {
        assert_eq!(rate(&printed(&[], &["--listen", "127.0.0.1:1"]).await, key), 0, "{key}");
        let network = ["--listen", "0.0.0.0:1"];
        assert!(rate(&printed(&[], &network).await, key) >= 1000, "{key}");
        let chosen = format!("limits.{key}=0");
        assert_eq!(rate(&printed(&[], &[&network[..], &["--set", &chosen]].concat()).await, key), 0, "{key}");
    }
}

#[tokio::test]
async fn config_defaults_prints_the_documented_file_which_equals_the_defaults() {
    let output = run(&["config", "--defaults"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), DEFAULTS));
    let documented: toml::Table = DEFAULTS.parse().expect("TOML");
    let mut in_force = printed(&[], &[]).await;
    // Durations have several spellings.
    assert_eq!(in_force["retention"]["changes"].as_str(), Some("30days"));
    for (section, settings) in &documented {
        let names: Vec<_> = settings.as_table().expect("a section").keys().collect();
        let section = in_force.remove(section).expect("every section is printed");
        assert_eq!(section.as_table().expect("a section").keys().collect::<Vec<_>>(), names);
    }
    assert!(in_force.is_empty(), "not documented: {in_force}");
}

#[tokio::test]
async fn a_file_overrides_the_defaults_the_environment_the_file_and_a_flag_everything() {
    let folder = TempFolder::new();
    let file =
        folder.file("a.toml", "[server]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 7\n[embedded]\nos_user = \"u\"");
    let variable = ("RESERVD_SERVER__LISTEN", "127.0.0.1:2");

    let of_file = printed(&[], &["--config", &file]).await;
    assert_eq!((listen(&of_file), of_file["server"]["max_in_flight"].as_integer()), ("127.0.0.1:1", Some(7)));
    assert_eq!(listen(&printed(&[variable], &["--config", &file]).await), "127.0.0.1:2");
    let all = printed(&[variable], &["--config", &file, "--set", "server.listen=127.0.0.1:3"]).await;
    assert_eq!((listen(&all), all["embedded"]["os_user"].as_str()), ("127.0.0.1:3", Some("u")));
    let flag = printed(&[variable], &["--set", "server.listen=127.0.0.1:3", "--listen", "127.0.0.1:4"]).await;
    assert_eq!(listen(&flag), "127.0.0.1:4");
}

#[tokio::test]
async fn variables_of_the_command_line_and_of_kubernetes_are_not_settings() {
    let folder = TempFolder::new();
    let file = folder.file("a.toml", "[server]\nlisten = \"127.0.0.1:1\"\n");
    let table = printed(
        &[
            ("RESERVD_CONFIG", &file),
            ("RESERVD_ADDRESS", "http://127.0.0.1:2"),
            ("RESERVD_SERVICE_HOST", "10.0.0.1"),
            ("RESERVD_SERVICE_PORT_GRPC", "50051"),
            ("RESERVD_PORT", "tcp://10.0.0.1:50051"),
            ("RESERVD_PORT_50051_TCP_ADDR", "10.0.0.1"),
            ("RESERVD_SERVER_SERVICE_HOST", "10.0.0.2"),
            ("RESERVD_CONSOLE_PORT", "tcp://10.0.0.3:80"),
            ("RESERVD_CONSOLE_PORT_80_TCP_PROTO", "tcp"),
        ],
        &[],
    )
    .await;
    assert_eq!(listen(&table), "127.0.0.1:1");
}

#[tokio::test]
async fn printed_settings_can_be_loaded_again() {
    let folder = TempFolder::new();
    let first = run(&["config", "--set", "expiry.interval=1500ms", "--set", "server.metrics_listen="]).await;
    let file = folder.file("printed.toml", &first.out);
    assert_eq!(run(&["config", "--config", &file]).await.out, first.out);
}

#[tokio::test]
async fn migrate_is_safe_to_repeat() {
    let database = TestDatabase::unmigrated().await;
    for applied in [reservd::store::schema::MIGRATIONS.iter().count(), 0] {
        let mut command = program(["migrate"]);
        command.env("DATABASE_URL", &database.url);
        let output = finish(command).await;
        assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
        assert_eq!(output.out, format!("{applied} migrations applied; the schema is up to date\n"));
    }
    Process::on(&database.url, &["database.migrate=false"]).await.stop().await;
}

/// Kills the postmaster each time it starts, so that the database is unavailable for a while.
fn keep_down(data_dir: &Path) {
    if let Some(pid) = postmaster(data_dir) {
        // It may already have ended.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
}

#[tokio::test]
async fn the_exit_code_of_healthcheck_is_the_health_of_the_server() {
    let absent = run(&["healthcheck", "--server", "http://127.0.0.1:1"]).await;
    assert_eq!(
        (absent.code, absent.err.as_str()),
        (Some(1), "reservd: no server responds at http://127.0.0.1:1; is it running, and is --server right?\n")
    );

    let folder = TempFolder::new();
    let data_dir = folder.path("data");
    let server = Process::embedded(&data_dir, &[]).await;
    let check = async || run(&["healthcheck", "--server", &server.address.to_string()]).await;
    let serving = check().await;
    assert_eq!((serving.code, serving.out.as_str(), serving.err.as_str()), (Some(0), "", ""));

    let mut last = serving;
    eventually("it does not serve without its database", async || {
        keep_down(&data_dir);
        last = check().await;
        last.code == Some(1)
    })
    .await;
    assert!(last.err.contains("NOT_SERVING") && last.err.lines().count() == 1, "{last:?}");
    eventually("it serves again", async || check().await.code == Some(0)).await;
    server.stop().await;
}

/// A value in the report of the probe.
fn cell<'a>(table: &'a str, name: &str) -> &'a str {
    let row = table.lines().find_map(|line| line.trim_matches(['│', ' ']).strip_prefix(name));
    row.unwrap_or_else(|| panic!("no row {name} in {table}")).trim()
}

fn assert_is_a_good_report(table: &str) {
    assert_eq!((cell(table, "operations"), cell(table, "successes"), cell(table, "SOLD_OUT")), ("400", "150", "250"));
    assert_eq!((cell(table, "version increments"), cell(table, "invariants")), ("150", "held"));
    let millis = |name| cell(table, name).trim_end_matches(" ms").parse::<f64>().expect("a number");
    assert!(millis("latency max") >= millis("lock wait, longest"), "{table}");
    assert!(millis("latency p50") > 0.0 && millis("latency p50") <= millis("latency max"), "{table}");
}

const PROBE: [&str; 7] = ["probe", "--operations", "400", "--capacity", "150", "--strategy", "pessimistic"];

#[tokio::test]
async fn probe_runs_directly_on_the_database() {
    let database = TestDatabase::unmigrated().await;
    let mut command = program(PROBE);
    command.env("DATABASE_URL", &database.url);
    let output = finish(command).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_is_a_good_report(&output.out);
}

#[tokio::test]
async fn probe_runs_on_a_server_only_if_that_allows_it() {
    let server = TestServer::start().await;
    let address = format!("http://{}", server.app.address);
    let remote = async |address: &str| finish(program(PROBE.iter().chain(&["--remote", "--server", address]))).await;
    let output = remote(&address).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_is_a_good_report(&output.out);
    server.check_and_stop().await;

    let server = TestServer::with(&[("diagnostics.concurrency_test", "false")]).await;
    let output = remote(&format!("http://{}", server.app.address)).await;
    assert_eq!((output.code, output.out.as_str()), (Some(1), ""));
    assert_eq!(
        output.err,
        "reservd: concurrency tests are off; set diagnostics.concurrency_test to allow them (DIAGNOSTICS_DISABLED)\n"
    );
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_probe_that_finds_a_violation_fails() {
    let database = TestDatabase::new().await;
    // A database that counts one unit too few, as a bug might.
    let forget = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.held := greatest(NEW.held - 1, 0); RETURN NEW; END $$;
        CREATE TRIGGER forget BEFORE UPDATE ON events FOR EACH ROW WHEN (NEW.held = 50) EXECUTE FUNCTION forget()";
    database.connect().await.execute(forget).await.expect("made");
    let mut command = program(PROBE);
    command.env("DATABASE_URL", &database.url);
    let output = finish(command).await;
    assert_eq!((output.code, cell(&output.out, "invariants")), (Some(1), "VIOLATED"), "{output:?}");
    assert!(output.out.contains("PROBLEM: "), "{}", output.out);
    assert_eq!(output.err, "reservd: an invariant did not hold\n");
}

#[tokio::test]
async fn the_help_tells_every_command_and_wrong_usage_is_exit_code_2() {
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0));
    let commands = ["serve", "event", "reservation", "waitlist", "watch", "top", "healthcheck", "migrate", "probe"];
    let others = ["sessions", "token", "config", "completions", "man"];
    for command in commands.into_iter().chain(others) {
        let output = run(&[command, "--help"]).await;
        assert_eq!(output.code, Some(0), "{command}");
        let about = output.out.lines().next().expect("it says what it does");
        assert!(about.len() > 8 && help.out.contains(about), "{command}: {about}");
    }
    assert!(help.out.contains("Exit codes:\n  0 "), "{}", help.out);
    assert!(run(&["--version"]).await.out.starts_with("reservd "));
    for wrong in [
        &["reserve"][..],
        &["config", "--set", "nothing"],
        &["config", "--set", "=1"],
        &["probe", "--operations", "0"],
        &["event"],
        &["event", "create", "hamlet"],
        &["event", "create", "hamlet", "--capacity", "5", "--start-time", "tomorrow"],
        &["reservation", "list"],
        &["reservation", "show", "hamlet"],
        &["reservation", "show", "hamlet", "ann", "--id", "1"],
        &["watch"],
    ] {
        assert_eq!(run(wrong).await.code, Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_flags_of_a_server_are_in_the_help_of_serve_and_of_config_alone() {
    for (command, has_them) in [
        (&[][..], false),
        (&["serve"], true),
        (&["config"], true),
        (&["event", "list"], false),
        (&["reservation", "reserve"], false),
        (&["healthcheck"], false),
        (&["token"], false),
    ] {
        let help = run(&[command, &["--help"]].concat()).await.out;
        for flag in ["--listen", "--data-dir"] {
            assert_eq!(help.contains(flag), has_them, "{command:?} {flag}: {help}");
        }
    }
}
