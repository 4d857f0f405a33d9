//! An insecure server on a public address must be configured explicitly.

use crate::support::{
    TestDatabase,
    issuer::Issuer,
    process::{Process, TempFolder, finish, program},
};

/// The error line for these settings.
async fn refusal(settings: &[&str]) -> String {
    let mut command = program(["serve", "--set", "server.metrics_listen=", "--set", "embedded.data_dir=/proc/reservd"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = finish(command).await;
    assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{output:?}");
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
    output.err
}

#[tokio::test]
async fn a_public_address_needs_tls_and_auth_or_an_explicit_setting() {
    let folder = TempFolder::new();
    let jwks = format!("auth.jwks={}", folder.file("jwks.json", Issuer::new().jwks().to_string()));
    let risk = "security.allow_unauthenticated_network";
    for address in ["server.listen=0.0.0.0:0", "server.listen=[::]:0", "server.listen=192.0.2.1:50051"] {
        let line = refusal(&[address]).await;
        assert!(
            line.contains("anyone who reaches it may do everything") && line.contains(&format!("{risk}=true")),
            "{line}"
        );
        assert!(line.contains("auth.jwks"), "it says what to do: {line}");
    }
    let plain = "security.allow_plaintext_network";
    let open = format!("{risk}=true");
    for settings in [&[jwks.as_str(), "auth.issuer=x"][..], &[&open]] {
        let line = refusal(&[&["server.listen=0.0.0.0:0"], settings].concat()).await;
        assert!(line.contains("read and alter everything") && line.contains(&format!("{plain}=true")), "{line}");
    }
}

#[tokio::test]
async fn the_metrics_are_exposed_only_by_an_explicit_setting() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
        let line = refusal(&["server.listen=127.0.0.1:0", &format!("server.metrics_listen={address}")]).await;
        assert!(line.contains("server.metrics_listen") && line.contains("allow_metrics_network=true"), "{line}");
    }
    let database = TestDatabase::new().await;
    let named = ["server.metrics_listen=0.0.0.0:0", "security.allow_metrics_network=true"];
    Process::on(&database.url, &named).await.stop().await;
}

#[tokio::test]
async fn an_explicit_setting_or_a_loopback_address_is_enough() {
    let database = TestDatabase::new().await;
    let named = ["security.allow_unauthenticated_network=true", "security.allow_plaintext_network=true"];
    let server = Process::on(&database.url, &[&["server.listen=0.0.0.0:0"], &named[..]].concat()).await;
    server.stop().await;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let server = Process::on(&database.url, &[&format!("server.listen={address}")]).await;
        let output = server.log().join("\n");
        assert!(output.contains("authentication is off") && output.contains("\"loopback_only\":true"), "{output}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_problem_with_a_file_is_one_line_without_its_content() {
    let folder = TempFolder::new();
    let canary = folder.file("canary", "canary");
    let jwks = folder.file("jwks.json", "{\"keys\": []}");
    for (settings, words) in [
        (
            vec!["auth.jwks=/nowhere/jwks.json".to_owned(), "auth.issuer=x".into()],
            vec!["auth.jwks", "/nowhere/jwks.json"],
        ),
        (vec![format!("auth.jwks={jwks}"), "auth.issuer=x".into()], vec!["auth.jwks", "no usable key"]),
        (vec![format!("auth.jwks={canary}"), "auth.issuer=x".into()], vec!["auth.jwks", "not a JSON Web Key Set"]),
        (vec![format!("auth.jwks={jwks}")], vec!["auth.issuer must be set"]),
        (
            vec!["auth.jwks=http://id.example/keys?k=canary".into(), "auth.issuer=x".into()],
            vec!["auth.jwks must be a file, or a URL of https"],
        ),
        (
            vec![format!("tls.certificate={canary}"), format!("tls.key={canary}")],
            vec!["tls.certificate", "no certificate in PEM"],
        ),
        (vec![format!("tls.certificate={canary}")], vec!["tls.certificate and tls.key must be set together"]),
        (vec!["tls.client_ca=x".into()], vec!["tls.client_ca must not be set without tls.certificate"]),
        (vec!["auth.algorithms=[\"HS256\"]".into()], vec!["auth.algorithms", "HS256"]),
        (vec!["auth.algorithms=[\"none\"]".into()], vec!["auth.algorithms", "none"]),
    ] {
        let settings: Vec<_> = settings.iter().map(String::as_str).chain(["server.listen=127.0.0.1:0"]).collect();
        let line = refusal(&settings).await;
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
        let output = line.replace(&canary, "");
        assert!(!output.contains("canary"), "{line}");
    }
}
