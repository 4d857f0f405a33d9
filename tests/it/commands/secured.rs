//! Commands on a server with TLS and tokens: they find it by its own settings, and say which flag is missing.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::process::Command;

use crate::support::{
    TestDatabase,
    process::{CommandOutput, Process, TempFolder, finish, program},
};

/// A server with TLS, whose certificate is for another name and of an authority that no system knows, and the tokens of
/// a folder of keys.
struct Secured {
    folder: TempFolder,
    database: TestDatabase,
    server: Process,
}

impl Secured {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (folder, database) = (TempFolder::new(), TestDatabase::new().await);
        let authority = authority();
        folder.file("ca.pem", authority.pem());
        for (name, dns) in [("server", "reservd.example"), ("client", "client.example")] {
            let (certificate, key) = signed(&authority, dns);
            folder.file(&format!("{name}.pem"), certificate);
            folder.file(&format!("{name}.key"), key);
        }
        let made = finish(program(["token", "--admin", "root", "--keys", &path(&folder, "keys")])).await;
        folder.file("admin.token", made.out);
        let mut all = vec![
            format!("tls.certificate={}", path(&folder, "server.pem")),
            format!("tls.key={}", path(&folder, "server.key")),
            format!("auth.jwks={}", path(&folder, "keys/jwks.json")),
            "auth.issuer=reservd-dev".to_owned(),
        ];
        all.extend(settings.iter().map(|(key, file)| format!("{key}={}", path(&folder, file))));
        let server = Process::on(&database.url, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Self { folder, database, server }
    }

    fn path(&self, name: &str) -> String {
        path(&self.folder, name)
    }

    /// A command that has the server's settings in its environment, as in the server's own container.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("RESERVD_SERVER__LISTEN", self.server.address.to_string());
        command.env("RESERVD_TLS__CERTIFICATE", self.path("server.pem"));
        command.env("RESERVD_TLS__KEY", self.path("server.key"));
        command
    }

    async fn run(&self, arguments: &[&str]) -> CommandOutput {
        finish(self.command(arguments)).await
    }
}

fn path(folder: &TempFolder, name: &str) -> String {
    folder.path(name).display().to_string()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for a name, and its key.
fn signed(authority: &CertifiedIssuer<'static, KeyPair>, dns: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([dns.to_owned()]).expect("a name");
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

#[track_caller]
fn assert_says(output: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!((output.code, output.err.lines().count()), (Some(code), 1), "{output:?}");
    for word in words {
        assert!(output.err.contains(word), "no {word:?} in {output:?}");
    }
}

#[tokio::test]
async fn commands_find_the_server_by_its_own_settings_whatever_its_certificate_is_for() {
    let secured = Secured::start(&[]).await;
    let health = secured.run(&["healthcheck"]).await;
    assert_eq!((health.code, health.out.as_str(), health.err.as_str()), (Some(0), "", ""), "no token is needed");
    let token = secured.path("admin.token");
    let made = secured.run(&["event", "create", "hamlet", "--capacity", "3", "--token-file", &token]).await;
    assert_eq!(made.code, Some(0), "{made:?}");

    // By a file of settings, and by flags.
    let settings = format!(
        "[server]\nlisten = \"{}\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        secured.server.address,
        secured.path("server.pem"),
        secured.path("server.key")
    );
    let file = secured.folder.file("reservd.toml", settings);
    let listed = finish(program(["event", "list", "--config", &file, "--token-file", &token])).await;
    assert!(listed.code == Some(0) && listed.out.contains("hamlet"), "{listed:?}");
    let health = finish(program(["healthcheck", "--config", &file])).await;
    assert_eq!(health.code, Some(0), "{health:?}");
    let csv = secured.folder.file("events.csv", "event_id,capacity\nmacbeth,5\n");
    for command in [&["event", "import", &csv][..], &["event", "export"], &["top"]] {
        let output = secured.run(&[command, &["--token-file", &token]].concat()).await;
        assert_eq!(output.code, Some(0), "{command:?}: {output:?}");
    }
    secured.server.stop().await;
}

#[tokio::test]
async fn another_certificate_than_that_of_the_settings_is_refused() {
    let secured = Secured::start(&[]).await;
    let mut command = secured.command(&["healthcheck"]);
    command.env("RESERVD_TLS__CERTIFICATE", secured.path("client.pem"));
    let output = finish(command).await;
    assert_says(&output, 1, &["TLS with", "its certificate is not the one of tls.certificate"]);
    secured.server.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_named_with_its_flag() {
    let secured = Secured::start(&[]).await;
    let (port, ca) = (secured.server.address.port(), secured.path("ca.pem"));
    let by_address = format!("https://127.0.0.1:{port}");
    assert_says(
        &secured.run(&["event", "list"]).await,
        1,
        &["(CREDENTIALS_MISSING)", "--token-file FILE", "RESERVD_TOKEN"],
    );
    let output = secured.run(&["event", "list", "--server", &by_address]).await;
    assert_says(&output, 1, &["TLS with", "an authority that is not trusted", "--ca FILE"]);
    let output = secured.run(&["event", "list", "--server", &by_address, "--ca", &ca]).await;
    assert_says(&output, 1, &["TLS with", "for another name", "--server URL"]);
    let output = secured.run(&["event", "list", "--server", &format!("http://127.0.0.1:{port}")]).await;
    assert_says(&output, 1, &["expects TLS", &format!("--server {by_address}")]);
    let output = secured.run(&["event", "list", "--ca", "/nowhere/ca.pem"]).await;
    assert_says(&output, 1, &["cannot read /nowhere/ca.pem"]);
    let output = secured.run(&["event", "list", "--ca", &secured.path("server.key")]).await;
    assert_says(&output, 1, &["server.key has no certificate in PEM"]);
    let output = secured.run(&["event", "list", "--server", "ftp://host"]).await;
    assert_says(&output, 1, &["--server ftp://host", "http://HOST:PORT"]);
    let mut command = secured.command(&["event", "list"]);
    command.env("RESERVD_TOKEN", "canary");
    let output = finish(command).await;
    assert_says(&output, 1, &["(TOKEN_INVALID)", "--token-file FILE"]);
    assert!(!output.err.contains("canary"), "{output:?}");
    secured.server.stop().await;
}

#[tokio::test]
async fn a_server_that_requires_client_certificates_says_so_and_takes_one() {
    let secured = Secured::start(&[("tls.client_ca", "ca.pem")]).await;
    let mut required = vec![
        format!("tls.certificate={}", secured.path("server.pem")),
        format!("tls.key={}", secured.path("server.key")),
        format!("tls.client_ca={}", secured.path("ca.pem")),
        "tls.client_certificates=REQUIRED".to_owned(),
    ];
    let settings: Vec<_> = required.iter().map(String::as_str).collect();
    let server = Process::on(&secured.database.url, &settings).await;
    required.push(format!("server.listen={}", server.address));
    let set: Vec<_> = required.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
    let output = finish(program([&["healthcheck"][..], &set].concat())).await;
    assert_says(&output, 1, &["asks for a client certificate", "--certificate FILE and --key FILE"]);
    let (certificate, key) = (secured.path("client.pem"), secured.path("client.key"));
    let identity = ["--certificate", &certificate, "--key", &key];
    let output = finish(program([&["healthcheck"][..], &set, &identity].concat())).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    server.stop().await;
    secured.server.stop().await;
}

/// The image's HEALTHCHECK is this command, with the settings of the container in the environment.
#[test]
fn the_image_checks_the_server_of_its_settings() {
    let dockerfile = include_str!("../../../Dockerfile");
    assert!(dockerfile.contains("CMD [\"/usr/local/bin/reservd\", \"healthcheck\"]"), "{dockerfile}");
}
