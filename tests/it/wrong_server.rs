//! Commands whose --server is no gRPC server, or has TLS where they have none: they say what is there instead.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    TestServer,
    process::{TempFolder, run},
};

/// Checks what every command that calls a server says about this one.
async fn assert_all_say(server: &str, expected: &str) {
    let folder = TempFolder::new();
    let file = folder.file("events.csv", "event_id,capacity\na,5\n");
    for command in [
        &["event", "import", &file][..],
        &["event", "export"],
        &["event", "list"],
        &["reservation", "confirm", "a", "ann"],
        &["watch", "a"],
        &["top"],
        &["healthcheck"],
        &["probe", "--remote", "--operations", "1"],
    ] {
        let output = run(&[command, &["--server", server]].concat()).await;
        assert_eq!(
            (output.code, output.err.as_str()),
            (Some(1), format!("reservd: {expected}\n").as_str()),
            "{command:?}"
        );
    }
}

#[tokio::test]
async fn the_metrics_port_is_an_http_server() {
    let server = TestServer::start().await;
    let address = server.app.metrics_address.expect("metrics are served");
    let expected = format!(
        "{address} is an HTTP/1 server, not a gRPC server; give the address of server.listen with --server URL"
    );
    assert_all_say(&format!("http://{address}"), &expected).await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn https_to_a_server_without_tls_says_http() {
    let server = TestServer::start().await;
    let address = server.app.address;
    assert_all_say(
        &format!("https://{address}"),
        &format!("{address} does not use TLS; use --server http://{address}"),
    )
    .await;
    server.check_and_stop().await;
}

#[tokio::test]
async fn http_to_a_server_with_tls_says_https() {
    let folder = TempFolder::new();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = folder.file("server.pem", pair.cert.pem());
    let key = folder.file("server.key", pair.signing_key.serialize_pem());
    let server = TestServer::with(&[("tls.certificate", &certificate), ("tls.key", &key)]).await;
    let address = server.app.address;
    assert_all_say(&format!("http://{address}"), &format!("{address} expects TLS; use --server https://{address}"))
        .await;

    let output = run(&["healthcheck", "--server", &format!("https://{address}")]).await;
    assert!(output.err.starts_with(&format!("reservd: TLS with {address} fails: ")), "{output:?}");
    assert!(output.err.contains("an authority that is not trusted") && output.err.contains("--ca FILE"), "{output:?}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_server_of_http_1_and_one_of_another_protocol_are_told_apart() {
    for (banner, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "is an HTTP/1 server, not a gRPC server; give the address of server.listen with --server URL",
        ),
        (b"-ERR unknown command\r\n", "is not a gRPC server; give the address of server.listen with --server URL"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (url, expected) = (format!("http://{address}"), format!("{address} {expected}"));
        let serving = async {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut greeting = [0; 64];
                // The client may have gone.
                let _ = connection.read(&mut greeting).await;
                let _ = connection.write_all(banner).await;
            }
        };
        tokio::select! {
            () = serving => unreachable!("it accepts for ever"),
            () = assert_all_say(&url, &expected) => {}
        }
    }
}
