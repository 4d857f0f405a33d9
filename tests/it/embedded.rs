//! The private PostgreSQL: crashes, sharing and error messages. Each test has its own server in its own folder.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use reservd::{
    embedded::{Embedded, EmbeddedError, EmbeddedOptions},
    rpc::pb,
};
use sqlx::{ConnectOptions, Connection};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::support::{
    eventually,
    process::{Process, clients, is_at_rest},
    reason, reserve,
};

/// A folder that is removed after the test.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reservd-embedded-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions::for_tests(self.data_dir())
    }

    fn data_dir(&self) -> PathBuf {
        self.0.join("data")
    }

    fn cluster(&self) -> PathBuf {
        self.data_dir().join("cluster")
    }

    fn postmaster(&self) -> Pid {
        let file = std::fs::read_to_string(self.cluster().join("postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn execute(embedded: &Embedded, sql: &'static str) {
    let mut connection = embedded.connect_options().connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(embedded: &Embedded, sql: &'static str) -> Result<i64, sqlx::Error> {
    let mut connection = embedded.connect_options().connect().await?;
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(value)
}

async fn write_42(embedded: &Embedded) {
    execute(embedded, "CREATE TABLE kept AS SELECT 42::bigint AS value").await;
}

async fn assert_42(embedded: &Embedded) {
    assert_eq!(number(embedded, "SELECT value FROM kept").await.unwrap(), 42);
}

async fn refusal(options: &EmbeddedOptions) -> EmbeddedError {
    let error = Embedded::start(options).await.expect_err("this must not start");
    assert!(!error.to_string().contains('\n'), "not one line: {error}");
    error
}

#[tokio::test]
async fn data_survives_a_restart() {
    let folder = TempFolder::new();
    for durable in [true, false] {
        let options = EmbeddedOptions { durable, ..folder.options() };
        let embedded = Embedded::start(&options).await.unwrap();
        if durable {
            write_42(&embedded).await;
        }
        assert_42(&embedded).await;
        embedded.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_server_leaves_nothing_running() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    let postmaster = folder.postmaster();
    embedded.stop().await.unwrap();
    assert!(kill(postmaster, None).is_err(), "process {postmaster} still runs");
    assert!(!folder.cluster().join("postmaster.pid").exists());
}

#[tokio::test]
async fn a_guest_shares_the_data_and_does_not_stop_the_server() {
    let folder = TempFolder::new();
    let owner = Embedded::start(&folder.options()).await.unwrap();
    write_42(&owner).await;

    let guest = Embedded::start(&folder.options()).await.unwrap();
    assert!(owner.is_owner() && !guest.is_owner());
    assert_eq!(guest.url(), owner.url());
    assert_42(&guest).await;

    guest.stop().await.unwrap();
    assert_42(&owner).await;
    owner.stop().await.unwrap();
}

#[tokio::test]
async fn a_guest_takes_the_server_over_when_the_owner_ends() {
    let folder = TempFolder::new();
    // With a short path of the socket, and with one that the owner chooses at random.
    for data_dir in [folder.data_dir(), folder.0.join("x".repeat(120))] {
        let options = EmbeddedOptions::for_tests(data_dir);
        let owner = Embedded::start(&options).await.unwrap();
        write_42(&owner).await;
        let guest = Embedded::start(&options).await.unwrap();
        owner.stop().await.unwrap();

        eventually("the guest owns the server", async || guest.is_owner()).await;
        assert_42(&guest).await;
        let next = Embedded::start(&options).await.unwrap();
        assert!(!next.is_owner());
        assert_eq!(next.url(), guest.url());
        drop(guest);
        eventually("the next guest owns the server", async || next.is_owner()).await;
        assert_42(&next).await;
        next.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_guest_that_has_stopped_takes_nothing_over() {
    let folder = TempFolder::new();
    let owner = Embedded::start(&folder.options()).await.unwrap();
    let guest = Embedded::start(&folder.options()).await.unwrap();
    guest.stop().await.unwrap();
    owner.stop().await.unwrap();
    let next = Embedded::start(&folder.options()).await.unwrap();
    assert!(next.is_owner());
    next.stop().await.unwrap();
}

#[tokio::test]
async fn a_rolling_restart_on_one_data_folder_keeps_serving() {
    let folder = TempFolder::new();
    let mut old = Process::embedded(&folder.data_dir(), &[]).await;
    let event = Some(pb::Event { event_id: "show".into(), capacity: 10, ..Default::default() });
    let (mut events, _) = clients(&old.connect().await);
    events.create_event(pb::CreateEventRequest { event, ..Default::default() }).await.unwrap();
    for user in ["ann", "bob", "cid"] {
        let new = Process::embedded(&folder.data_dir(), &[]).await;
        let owner = format!("\"owner\":\"{}\"", old.pid());
        let is_told = |line: &String| line.contains("guest of a PostgreSQL") && line.contains(&owner);
        assert!(new.log().iter().any(is_told), "{:?}", new.log());
        old.stop().await;

        let (channel, request) =
            (new.connect().await, pb::ReserveRequest { request_id: user.into(), ..reserve("show", user) });
        eventually("it serves on its own", async || {
            let answer = clients(&channel).1.reserve(request.clone()).await;
            answer
                .inspect_err(|status| {
                    let known = ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"];
                    assert!(known.contains(&reason(status).as_str()), "{status:?}");
                })
                .is_ok()
        })
        .await;
        let mut health = HealthClient::new(channel);
        eventually("its health says so", async || {
            let checked = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
            checked.status() == ServingStatus::Serving
        })
        .await;
        old = new;
    }
    let (mut events, _) = clients(&old.connect().await);
    let request = pb::GetEventRequest { event_id: "show".into() };
    let event = events.get_event(request).await.unwrap().into_inner().event.unwrap();
    assert_eq!(event.counts.unwrap_or_default().held, 3);
    old.stop().await;
    assert!(is_at_rest(&folder.data_dir()));
}

#[tokio::test]
async fn of_two_concurrent_starts_one_is_the_owner() {
    let folder = TempFolder::new();
    let options = folder.options();
    let (one, other) = tokio::join!(Embedded::start(&options), Embedded::start(&options));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.is_owner(), other.is_owner());
    write_42(&one).await;
    assert_42(&other).await;
}

#[tokio::test]
async fn dropping_the_owner_makes_room_for_the_next() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    write_42(&embedded).await;
    drop(embedded);

    let successor = Embedded::start(&folder.options()).await.unwrap();
    assert!(successor.is_owner());
    assert_42(&successor).await;
    successor.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_on_the_same_socket() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    write_42(&embedded).await;
    let killed = folder.postmaster();
    kill(killed, Signal::SIGKILL).unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    while number(&embedded, "SELECT value FROM kept").await.is_err() {
        assert!(Instant::now() < deadline, "it did not come back");
        tokio::task::yield_now().await;
    }
    assert_42(&embedded).await;
    assert_ne!(folder.postmaster(), killed);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_does_not_block_the_next_start() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    write_42(&embedded).await;
    let stale = folder.cluster().join("postmaster.pid");
    let stale_content = std::fs::read(&stale).unwrap();
    kill(folder.postmaster(), Signal::SIGKILL).unwrap();
    embedded.stop().await.unwrap();
    // Whether or not the supervisor has restarted it already.
    std::fs::write(&stale, stale_content).unwrap();

    let successor = Embedded::start(&folder.options()).await.unwrap();
    assert_42(&successor).await;
    successor.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_of_another_major_version_is_refused() {
    let folder = TempFolder::new();
    std::fs::create_dir_all(folder.cluster()).unwrap();
    std::fs::write(folder.cluster().join("PG_VERSION"), "11\n").unwrap();

    let error = refusal(&folder.options()).await;

    assert!(matches!(error, EmbeddedError::OtherVersion { .. }), "{error:?}");
    assert!(error.to_string().contains("was created by PostgreSQL 11"), "{error}");
}

#[tokio::test]
async fn an_interrupted_initdb_does_not_block_the_next_start() {
    let folder = TempFolder::new();
    let partial = folder.data_dir().join("cluster.partial");
    std::fs::create_dir_all(partial.join("base")).unwrap();
    std::fs::write(partial.join("PG_VERSION"), "15\n").unwrap();

    let embedded = Embedded::start(&folder.options()).await.unwrap();

    write_42(&embedded).await;
    assert!(!partial.exists());
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_runs_as_an_ordinary_user() {
    let folder = TempFolder::new();
    let os_user = Some("nobody".to_owned());
    let embedded = Embedded::start(&EmbeddedOptions { os_user, ..folder.options() }).await.unwrap();
    let expected = match geteuid() {
        root if root.is_root() => User::from_name("nobody").unwrap().unwrap().uid,
        ourselves => ourselves,
    };
    let written_by_the_server = folder.cluster().join("postmaster.pid").metadata().unwrap();
    assert_eq!(written_by_the_server.uid(), expected.as_raw());
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_does_not_inherit_the_environment() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    let mut connection = embedded.connect_options().connect().await.unwrap();
    sqlx::raw_sql("CREATE TEMP TABLE seen (line text); COPY seen FROM PROGRAM 'env'")
        .execute(&mut connection)
        .await
        .unwrap();
    let names = sqlx::query_scalar("SELECT split_part(line, '=', 1) FROM seen").fetch_all(&mut connection);
    let names: Vec<String> = names.await.unwrap();
    let inherited = std::env::vars().map(|(name, _)| name).filter(|name| names.contains(name));
    // The shell sets some of these itself.
    let expected = ["PATH", "TZ", "LC_ALL", "LD_LIBRARY_PATH", "PWD", "OLDPWD", "SHLVL", "_"];
    assert_eq!(inherited.filter(|name| !expected.contains(&name.as_str())).collect::<Vec<_>>(), Vec::<String>::new());
    assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
    connection.close().await.unwrap();
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn only_the_user_of_the_server_can_reach_its_socket() {
    let folder = TempFolder::new();
    let embedded = Embedded::start(&folder.options()).await.unwrap();
    let socket_dir = embedded.connect_options().get_socket().cloned().unwrap();
    let mode = socket_dir.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_path_of_the_data_folder_works() {
    let folder = TempFolder::new();
    let data_dir = folder.data_dir().join("x".repeat(120));
    let embedded = Embedded::start(&EmbeddedOptions::for_tests(data_dir)).await.unwrap();
    write_42(&embedded).await;
    let socket_dir = embedded.connect_options().get_socket().cloned().unwrap();
    assert!(!socket_dir.starts_with(&folder.0));
    embedded.stop().await.unwrap();
    assert!(!socket_dir.exists(), "left behind: {}", socket_dir.display());
}

#[tokio::test]
async fn without_binaries_the_error_names_the_searched_places_and_the_remedy() {
    let folder = TempFolder::new();
    let bin_dir = Some(folder.0.clone());

    let error = refusal(&EmbeddedOptions { bin_dir, ..folder.options() }).await;

    assert!(matches!(error, EmbeddedError::NoBinaries { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&folder.0.display().to_string()), "{message}");
    assert!(message.contains("install"), "{message}");
    assert!(message.contains("DATABASE_URL"), "{message}");
}

#[tokio::test]
async fn the_error_of_a_failed_start_quotes_the_log() {
    let folder = TempFolder::new();
    let settings = vec![("shared_bufers".to_owned(), "1GB".to_owned())];

    let error = refusal(&EmbeddedOptions { settings, ..folder.options() }).await;

    assert!(matches!(error, EmbeddedError::NotStarted { .. }), "{error:?}");
    assert!(error.to_string().contains("shared_bufers"), "{error}");
}

#[tokio::test]
async fn the_error_names_a_folder_that_the_server_cannot_enter() {
    let folder = TempFolder::new();
    std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o700)).unwrap();

    let started = Embedded::start(&folder.options()).await;

    // An ordinary user can enter its own folders.
    assert_eq!(started.is_err(), geteuid().is_root());
    if let Err(error) = started {
        assert!(matches!(&error, EmbeddedError::ClosedFolder { path, .. } if Path::new(path) == folder.0));
    }
}
