//! `reservd token`, and the commands that need one.

use std::os::unix::fs::PermissionsExt;

use crate::support::{
    TestDatabase,
    process::{CommandOutput, Process, TempFolder, finish, program},
};

/// Runs the program with a token in the environment.
async fn run_with(token: &str, arguments: &[&str]) -> CommandOutput {
    let mut command = program(arguments);
    command.env("RESERVD_TOKEN", token);
    finish(command).await
}

/// A token that the program signs with the keys of this folder.
async fn token(keys: &str, who: &[&str]) -> String {
    let output = finish(program([&["token", "--keys", keys][..], who].concat())).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
    output.out.trim_end().to_owned()
}

#[tokio::test]
async fn a_server_with_the_keys_accepts_tokens_of_the_program() {
    let (database, folder) = (TestDatabase::new().await, TempFolder::new());
    let keys = folder.path("keys").display().to_string();
    let admin = token(&keys, &["--admin", "root"]).await;
    let mode =
        |name: &str| std::fs::metadata(folder.path("keys").join(name)).expect("made").permissions().mode() & 0o777;
    assert_eq!((mode("signing-key.pem"), mode("jwks.json")), (0o600, 0o644));

    let jwks = format!("auth.jwks={keys}/jwks.json");
    let server =
        Process::on(&database.url, &[&jwks, "auth.issuer=reservd-dev", "diagnostics.concurrency_test=true"]).await;
    let (url, csv) = (server.url(), folder.file("events.csv", "event_id,capacity\nconcert,5\n"));
    assert_eq!(finish(program(["healthcheck", "--server", &url])).await.code, Some(0), "health needs no token");
    let import = ["event", "import", &csv, "--server", &url];
    let anonymous = finish(program(import)).await;
    assert_eq!(anonymous.code, Some(1), "{anonymous:?}");
    let user = token(&keys, &["--user", "ann"]).await;
    assert_eq!(run_with(&user, &import).await.code, Some(1), "a user makes no events");
    let manager = token(&keys, &["--subject", "mia", "--role", "event.manager"]).await;
    let output = run_with(&manager, &import).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let file = folder.file("token", format!("{admin}\n"));
    let probe = ["probe", "--remote", "--operations", "20", "--server", &url, "--token-file", &file];
    let output = finish(program(probe)).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    // A second token from the same folder is signed with the same keys.
    let output =
        run_with(&token(&keys, &["--service", "shop", "--ttl", "1m"]).await, &["probe", "--remote", "--server", &url])
            .await;
    assert!(output.err.contains("one of these roles is needed: admin"), "{output:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_does_not_cross_a_network_in_the_clear() {
    let (database, folder) = (TestDatabase::new().await, TempFolder::new());
    let server = Process::on(&database.url, &[]).await;
    let (csv, file) = (folder.file("events.csv", "event_id,capacity\nconcert,5\n"), folder.file("token", "canary"));
    // For the program not an address of this machine only, though it leads to the server.
    let url = format!("http://0.0.0.0:{}", server.address.port());
    let import = ["event", "import", &csv, "--server", &url];
    for output in [
        run_with("canary", &import).await,
        finish(program([&import[..], &["--token-file", &file]].concat())).await,
        run_with("canary", &["event", "import", &csv, "--server", &url.replace("http", "HTTP")]).await,
    ] {
        assert!(output.code == Some(1) && output.err.contains("--insecure-token"), "{output:?}");
    }
    assert_eq!(finish(program(import)).await.code, Some(0), "without a token there is nothing to lose");
    let output = run_with("canary", &[&import[..], &["--insecure-token"]].concat()).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_in_a_file_is_for_its_owner_only() {
    let folder = TempFolder::new();
    let (keys, file) = (folder.path("keys").display().to_string(), folder.path("ann.token"));
    let arguments = ["token", "--user", "ann", "--keys", &keys, "--out", &file.display().to_string()];
    let output = finish(program(arguments)).await;
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), "", ""), "{output:?}");
    let (written, mode) =
        (std::fs::read_to_string(&file), std::fs::metadata(&file).expect("made").permissions().mode());
    let written = written.expect("made");
    assert_eq!((written.trim_end().split('.').count(), mode & 0o777), (3, 0o600));
    let output = finish(program(arguments)).await;
    assert!(output.code == Some(1) && output.err.contains("ann.token"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), written, "no file is overwritten");
}

#[tokio::test]
async fn wrong_usage_of_token_is_reported() {
    for wrong in
        [&["token"][..], &["token", "--user", "a", "--admin", "b"], &["token", "--user", "a", "--role", "king"]]
    {
        assert_eq!(finish(program(wrong)).await.code, Some(2), "{wrong:?}");
    }
    let folder = TempFolder::new();
    std::fs::create_dir(folder.path("keys")).expect("made");
    folder.file("keys/signing-key.pem", "canary");
    let keys = folder.path("keys").display().to_string();
    let output = finish(program(["token", "--user", "ann", "--keys", &keys])).await;
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("is not an Ed25519 key in PEM") && !output.err.contains("canary"), "{}", output.err);
}

#[tokio::test]
async fn a_token_that_the_server_would_refuse_is_not_made() {
    let folder = TempFolder::new();
    let keys = folder.path("keys").display().to_string();
    for (arguments, words) in [
        (&["--user", "ann", "--ttl", "48h"][..], &["--ttl 2days", "1s to 1day", "auth.max_token_lifetime"][..]),
        (&["--user", "ann", "--ttl", "0s"], &["--ttl 0s", "auth.max_token_lifetime"]),
        (&["--user", "ann lee"], &["\"ann lee\" is no name of a caller"]),
        (&["--service", ""], &["\"\" is no name of a caller"]),
        (&["--user", "ann", "--set", "auth.max_token_lifetime=1h"], &["--ttl 12h", "1s to 1h"]),
    ] {
        let output = finish(program([&["token", "--keys", &keys][..], arguments].concat())).await;
        assert_eq!((output.code, output.out.as_str(), output.err.lines().count()), (Some(1), "", 1), "{output:?}");
        words.iter().for_each(|word| assert!(output.err.contains(word), "no {word} in {output:?}"));
    }
    assert!(!folder.path("keys").exists(), "a refused token leaves no keys");
    let longer = ["--user", "ann", "--ttl", "48h", "--set", "auth.max_token_lifetime=72h"];
    assert_eq!(token(&keys, &longer).await.split('.').count(), 3);
}
