//! A failure to start is one clear line on standard error, and exit code 1.

use reservd::store::schema;
use sqlx::{AssertSqlSafe, Executor};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
};

use crate::support::{
    TestDatabase, all, eventually,
    process::{CommandOutput, Process, TempFolder, finish, program, run},
    soon,
};

/// Tries to serve, and returns the error line: one of the log, unless the settings are what is wrong.
async fn refusal(database_url: Option<&str>, arguments: &[&str]) -> String {
    let mut command = program(["serve"]);
    // Isolated from this machine. The arguments of a test come later and override these.
    let isolated = ["server.listen=127.0.0.1:0", "server.metrics_listen=", "embedded.data_dir=/proc/reservd"];
    for setting in isolated.into_iter().chain(["database.connect_timeout=0s"]) {
        command.args(["--set", setting]);
    }
    command.args(arguments);
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    one_line(finish(command).await)
}

fn one_line(output: CommandOutput) -> String {
    assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{output:?}");
    let line = output.err.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "more than one line: {line}");
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(line) => line["fields"]["message"].as_str().expect("it has a message").to_owned(),
        Err(_) => line.strip_prefix("reservd: ").expect("the line begins with the program's name").to_owned(),
    }
}

#[track_caller]
fn assert_says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
    for noise in ["canary", "Error {", ".rs:"] {
        assert!(!line.contains(noise), "{noise:?} in {line:?}");
    }
}

#[tokio::test]
async fn an_unreachable_database() {
    let line = refusal(Some("postgres://me:canary@127.0.0.1:1/x"), &[]).await;
    assert_says(&line, &["cannot connect to the database at 127.0.0.1:1: ", "Connection refused"]);
}

#[tokio::test]
async fn a_silent_database() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("bound");
    let line = refusal(Some(&format!("postgres://me:canary@{address}/x")), &[]).await;
    assert_says(&line, &["cannot connect to the database", "does not answer"]);
}

/// A server that waits for this database, and its health, which is NOT_SERVING.
async fn waiting_server(database_url: &str, port: u16, settings: &[&str]) -> tokio::process::Child {
    let mut command = program(["serve", "--listen", &format!("127.0.0.1:{port}"), "--set", "server.metrics_listen="]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let child = command.env("DATABASE_URL", database_url).spawn().expect("it can be started");
    let address = format!("http://127.0.0.1:{port}");
    eventually("health checks are answered", async || {
        let health = run(&["healthcheck", "--server", &address]).await;
        assert_eq!(health.code, Some(1));
        health.err.contains("NOT_SERVING")
    })
    .await;
    let call = run(&["event", "list", "--server", &address]).await;
    assert_says(&call.err, &["this server is starting", "(DATABASE_UNAVAILABLE); try again"]);
    child
}

/// A port that is free now.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").port()
}

#[tokio::test]
async fn a_server_waits_for_its_database_and_serves_once_it_is_there() {
    let database = TestDatabase::unmigrated().await;
    let socket = database.options.get_socket().expect("by its socket").join(".s.PGSQL.5432");
    let (database_port, port) = (free_port().await, free_port().await);
    let name = database.options.get_database().expect("it has a name");
    let user = database.options.get_username();
    let url = format!("postgres://{user}@127.0.0.1:{database_port}/{name}");
    let mut server = waiting_server(&url, port, &[]).await;
    let listener = TcpListener::bind(("127.0.0.1", database_port)).await.expect("still free");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut postgres = UnixStream::connect(&socket).await.expect("PostgreSQL is there");
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut postgres).await });
        }
    });
    let address = format!("http://127.0.0.1:{port}");
    eventually("it serves", async || run(&["healthcheck", "--server", &address]).await.code == Some(0)).await;
    assert_eq!(run(&["event", "list", "--server", &address]).await.code, Some(0));
    server.kill().await.expect("it runs");
}

#[tokio::test]
async fn a_server_gives_up_when_its_database_stays_away() {
    let port = free_port().await;
    let server = waiting_server("postgres://me:canary@127.0.0.1:1/x", port, &["database.connect_timeout=2s"]).await;
    let output = CommandOutput::from(soon("it gives up", server.wait_with_output()).await.expect("it ran"));
    let (last, before): (Vec<_>, Vec<_>) = output.err.lines().rev().enumerate().partition(|(number, _)| *number == 0);
    assert_says(last[0].1, &["cannot connect to the database at 127.0.0.1:1: ", "\"ERROR\""]);
    assert!(!before.is_empty(), "{output:?}");
    before.iter().for_each(|(_, line)| assert_says(line, &["waiting for the database", "127.0.0.1:1", "gives_up_in"]));
    assert_eq!(output.code, Some(1));
}

#[tokio::test]
async fn a_missing_database() {
    let database = TestDatabase::unmigrated().await;
    let name = database.options.get_database().expect("it has a name");
    let line = refusal(Some(&database.url.replace(name, "nowhere_to_be_found")), &[]).await;
    assert_says(&line, &["cannot connect to the database", "nowhere_to_be_found"]);
}

#[tokio::test]
async fn a_url_of_another_scheme() {
    for wrong in ["nonsense", "mysql://me:canary@127.0.0.1/x", "postgres://me:canary@127.0.0.1:99999/x"] {
        let line = refusal(Some(wrong), &[]).await;
        assert_says(&line, &["DATABASE_URL", "is not a PostgreSQL URL"]);
    }
}

#[tokio::test]
async fn a_newer_schema() {
    let database = TestDatabase::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'from the future', true, '', 0)";
    database.connect().await.execute(newer).await.expect("inserted");
    for migrate in ["database.migrate=true", "database.migrate=false"] {
        let line = refusal(Some(&database.url), &["--set", migrate]).await;
        assert_says(&line, &["schema is newer", "9999", "use a newer reservd"]);
    }
}

#[tokio::test]
async fn a_database_that_other_migrations_made_is_refused_with_one_clear_line() {
    let database = TestDatabase::new().await;
    let mut sql = database.connect().await;
    sql.execute("UPDATE _sqlx_migrations SET checksum = 'other' WHERE version = 1").await.expect("it is another");
    for migrate in ["database.migrate=true", "database.migrate=false"] {
        let line = refusal(Some(&database.url), &["--set", migrate]).await;
        assert_says(&line, &["from before the first release", "use an empty database"]);
    }
}

#[tokio::test]
async fn an_older_schema_without_migration() {
    let database = TestDatabase::unmigrated().await;
    let line = refusal(Some(&database.url), &["--set", "database.migrate=false"]).await;
    assert_says(&line, &["schema is older", "run `reservd migrate`"]);
    let mut sql = database.connect().await;
    let tables = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables.fetch_one(&mut sql).await.expect("counted"), 0, "looking changed something");
}

#[tokio::test]
async fn servers_that_start_at_once_migrate_an_empty_database_once() {
    for _ in 0..20 {
        let database = TestDatabase::unmigrated().await;
        let migrations = all((0..4).map(|_| schema::migrate(&database.options))).await;
        let mut applied: Vec<_> = migrations.into_iter().map(|it| it.expect("each server can start")).collect();
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, schema::MIGRATIONS.iter().count()]);
    }
}

#[tokio::test]
async fn without_migration_the_server_needs_no_create_privilege() {
    let database = TestDatabase::new().await;
    let role = format!("teller_of_{}", database.options.get_database().expect("it has a name"));
    let mut sql = database.connect().await;
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
    ] {
        sql.execute(AssertSqlSafe(statement)).await.expect("granted");
    }
    let url = database.url.replace("user=reservd", &format!("user={role}"));
    assert_ne!(url, database.url);
    Process::on(&url, &["database.migrate=false"]).await.stop().await;
    for statement in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        sql.execute(AssertSqlSafe(statement)).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_port_in_use() {
    let database = TestDatabase::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for setting in ["server.listen", "server.metrics_listen"] {
        let line = refusal(Some(&database.url), &["--set", &format!("{setting}={address}")]).await;
        assert_says(&line, &["cannot listen on", &address, setting, "in use"]);
    }
}

#[tokio::test]
async fn invalid_settings() {
    let folder = TempFolder::new();
    let unknown = folder.file("unknown.toml", "[server]\nlistn = \"127.0.0.1:1\"\n");
    let broken = folder.file("broken.toml", "[database]\n\nurl = \"postgres://me:canary@host/x\n");
    let renamed = folder.file("renamed.toml", "[execution]\nremembered_events = 7\n");
    let binary = folder.file("binary.toml", b"\xff\xfe");
    let missing = folder.path("missing.toml").display().to_string();
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--config", &unknown], &["unknown setting server.listn", &unknown, "did you mean server.listen?"]),
        (&["--set", "expiry.intervall=1s"], &["expiry.intervall", "did you mean expiry.interval?"]),
        (&["--set", "expiry.interval=soon"], &["expiry.interval", "soon", "command line"]),
        (&["--set", "retention.changes=1h"], &["retention.changes must be from 1 day to 10 years, and is 1 hour"]),
        (
            &["--config", &renamed],
            &["unknown setting execution.remembered_events", &renamed, "it is execution.cached_events now"],
        ),
        (&["--config", &broken], &[&broken, "not valid TOML", "line 3"]),
        (&["--config", &binary], &["cannot read the configuration file", &binary]),
        (&["--config", &missing], &["there is no configuration file", &missing]),
        (&["--set", "telemetry.log=reservd=loud"], &["telemetry.log", "reservd=loud", "not a log filter"]),
        (&["--set", "telemetry.otlp_endpoint=canary:"], &["telemetry.otlp_endpoint", "is not a URL such as http:"]),
    ];
    for (arguments, words) in cases {
        assert_says(&refusal(None, arguments).await, words);
    }
}

#[tokio::test]
async fn an_invalid_variable_is_named() {
    for (name, value, words) in [
        ("RESERVD_SERVER__LISTN", "x", ["unknown setting server.listn", "did you mean RESERVD_SERVER__LISTEN?"]),
        ("RESERVD_LISTEN", "127.0.0.1:1", ["unknown setting listen", "did you mean RESERVD_SERVER__LISTEN?"]),
        ("RESERVD_SERVER_LISTEN", "x", ["unknown setting server_listen", "did you mean RESERVD_SERVER__LISTEN?"]),
        ("RESERVD_SERVR__LISTEN", "x", ["unknown setting servr", "did you mean RESERVD_SERVER__LISTEN?"]),
        (
            "RESERVD_SERVER__LISTEN",
            "localhost:50051",
            ["server.listen is \"localhost:50051\"", "such as 127.0.0.1:50051;"],
        ),
        ("RESERVD_HOLDS__SWEEP_INTERVAL", "1s", ["unknown setting holds.sweep_interval", "it is expiry.interval now"]),
        ("RESERVD_STRATEGY__RESERVE", "LUCKY", ["strategy.reserve", "must be one of PESSIMISTIC, OPTIMISTIC"]),
    ] {
        let mut command = program(["serve"]);
        command.env(name, value);
        let line = one_line(finish(command).await);
        assert_says(&line, &words);
        assert_says(&line, &[name]);
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_created() {
    let folder = TempFolder::new();
    let file = folder.file("file", "not a folder");
    let inside = format!("{file}/data");
    assert_says(&refusal(None, &["--data-dir", &inside]).await, &["cannot create the folder", &inside]);
    // Not even root can write there.
    assert_says(&refusal(None, &["--data-dir", "/proc/reservd"]).await, &["cannot create the folder /proc/reservd"]);
}

#[tokio::test]
async fn all_invalid_settings_are_reported_at_once() {
    let mut command = program(["serve", "--set", "expiry.batch=0", "--set", "database.max_connections=1"]);
    command.env("RESERVD_RETENTION__CHANGES", "1h");
    let output = finish(command).await;
    assert_eq!(output.code, Some(1));
    for key in ["expiry.batch", "database.max_connections", "retention.changes"] {
        assert!(output.err.lines().any(|line| line.contains(key)), "{key}: {}", output.err);
    }
}
