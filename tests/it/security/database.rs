//! The database: the server uses TLS to it where its URL says so.

use reservd::embedded::{Embedded, EmbeddedOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{
    eventually,
    process::{Process, TempFolder, clients, finish, program},
};

/// A PostgreSQL that accepts only TLS at these addresses, the first of which is in its certificate.
async fn with_tls(folder: &TempFolder, addresses: [&str; 2]) -> Embedded {
    let settings = vec![("listen_addresses".to_owned(), addresses.join(","))];
    let options = EmbeddedOptions { settings, ..EmbeddedOptions::for_tests(folder.path("postgres")) };
    let embedded = Embedded::start(&options).await.expect("PostgreSQL starts");
    let made = rcgen::generate_simple_self_signed([addresses[0].to_owned()]).expect("a certificate can be made");
    folder.file("certificate.pem", made.cert.pem());
    let (mut admin, key) = (connect(&embedded).await, made.signing_key.serialize_pem());
    let access = "local all all trust\nhostssl all all 127.0.0.0/8 trust".to_owned();
    // PostgreSQL must own these files.
    for (file, text) in [("server.crt", made.cert.pem()), ("server.key", key), ("pg_hba.conf", access)] {
        let sql = format!(
            "COPY (SELECT unnest(string_to_array('{text}', E'\n'))) TO PROGRAM 'umask 077; cat > {file}.new && mv {file}.new {file}'"
        );
        admin.execute(AssertSqlSafe(sql.as_str())).await.expect("a file can be written");
    }
    admin.execute("ALTER SYSTEM SET ssl = on").await.expect("a setting can be changed");
    admin.execute("SELECT pg_reload_conf()").await.expect("it reads its files again");
    eventually("it has TLS", async || {
        let ssl = sqlx::query_scalar::<_, String>("SHOW ssl").fetch_one(&mut connect(&embedded).await).await;
        ssl.expect("settings are told") == "on"
    })
    .await;
    embedded
}

async fn connect(embedded: &Embedded) -> PgConnection {
    PgConnection::connect_with(&embedded.connect_options()).await.expect("PostgreSQL can be connected to")
}

#[tokio::test]
async fn tls_to_postgresql_verifies_the_name_in_the_url() {
    let folder = TempFolder::new();
    // The port is fixed, so each run uses its own addresses.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [named, other] = [77, 78].map(|net| format!("127.{net}.{high}.{low}"));
    let embedded = with_tls(&folder, [&named, &other]).await;
    let authority = folder.path("certificate.pem").display().to_string();
    let url = |address: &str, how: &str| format!("postgres://reservd@{address}/reservd?sslmode={how}");
    let trusting = format!("{}&sslrootcert={authority}", url(&named, "verify-full"));
    let server = Process::on(&trusting, &[]).await;
    let (mut events, _) = clients(&server.connect().await);
    let event = reservd::rpc::pb::Event { event_id: "concert".into(), capacity: 2, ..Default::default() };
    let create = reservd::rpc::pb::CreateEventRequest { event: Some(event), ..Default::default() };
    events.create_event(create).await.expect("it writes events");
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL";
    let encrypted = sqlx::query_scalar::<_, Option<bool>>(encrypted).fetch_one(&mut connect(&embedded).await).await;
    assert_eq!(encrypted.expect("activity is shown"), Some(true));
    server.stop().await;

    for (why, bad) in [
        ("no trusted authority has signed the certificate", url(&named, "verify-full")),
        ("the certificate is another's", format!("{}&sslrootcert={authority}", url(&other, "verify-full"))),
        ("the server takes TLS only", url(&named, "disable")),
    ] {
        let mut migrate = program(["migrate"]);
        migrate.env("DATABASE_URL", bad);
        let output = finish(migrate).await;
        assert_ne!(output.code, Some(0), "{why}: {output:?}");
    }
    embedded.stop().await.expect("PostgreSQL stops");
}
