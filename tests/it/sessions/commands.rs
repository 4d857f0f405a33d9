//! `reservd sessions` works without a server, and every server applies its revocations.

use std::os::unix::fs::PermissionsExt;

use super::{ask, guarded, list};
use crate::support::{
    TestRedis, eventually,
    process::{CommandOutput, TempFolder, finish, program},
};

async fn run(redis: &TestRedis, arguments: &[&str]) -> CommandOutput {
    let mut command = program([&["sessions"][..], arguments].concat());
    command.env("REDIS_URL", &redis.url).env("RESERVD_SESSIONS__PREFIX", &redis.prefix);
    finish(command).await
}

#[tokio::test]
async fn sessions_are_opened_listed_and_revoked_from_the_command_line() {
    let (guarded, redis) = guarded().await;
    let root = guarded.caller("root", &["admin"]);
    let create =
        ["create", "--user", "ann", "--role", "reader", "--lifetime", "1h", "--fixed", "--description", "a desk"];
    let output = run(&redis, &create).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
    let client = guarded.with_token(output.out.trim_end());
    ask(&client).await.expect("a reader");
    let session = list(&root, "ann").await.remove(0);
    assert_eq!((session.description.as_str(), session.created_by.as_str()), ("a desk", "command line"));
    assert_eq!(session.end_time, session.expire_time, "it is fixed");

    let output = run(&redis, &["list", "--user", "ann"]).await;
    assert!(output.out.contains(&session.session_id) && output.out.contains("a desk"), "{output:?}");
    let output = run(&redis, &["revoke", &session.session_id]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), "1 revoked\n"), "{output:?}");
    eventually("the server heard", async || ask(&client).await.is_err()).await;
    assert_eq!(run(&redis, &["revoke", &session.session_id]).await.out, "0 revoked\n");

    for id in ["-", "--", "-h"] {
        let id = format!("{id:A<43}");
        assert_eq!(run(&redis, &["revoke", &id]).await.out, "0 revoked\n", "{id} is an id");
    }

    let folder = TempFolder::new();
    let file = folder.path("ann.token").display().to_string();
    let output = run(&redis, &["create", "--user", "ann", "--out", &file]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""), "{output:?}");
    assert_eq!(std::fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
    ask(&guarded.with_token(std::fs::read_to_string(&file).expect("made").trim_end())).await.expect("a user");
    assert_eq!(run(&redis, &["revoke", "--user", "ann"]).await.out, "1 revoked\n");

    let tokens =
        [run(&redis, &["create", "--user", "ann"]).await.out, run(&redis, &["create", "--user", "ann"]).await.out];
    let clients = tokens.map(|token| guarded.with_token(token.trim_end()));
    for client in &clients {
        ask(client).await.expect("a user");
    }
    assert_eq!(run(&redis, &["revoke", "--user", "ann"]).await.out, "2 revoked\n");
    for client in &clients {
        eventually("the server heard", async || ask(client).await.is_err()).await;
    }
    let token = run(&redis, &["create", "--user", "ann"]).await.out;
    let kept = super::open(&guarded, super::wish("ann", &[])).await.0;
    assert_eq!(run(&redis, &["revoke", "--created-by", "command line"]).await.out, "1 revoked\n");
    let client = guarded.with_token(token.trim_end());
    eventually("the server heard", async || ask(&client).await.is_err()).await;
    ask(&guarded.with_token(&kept)).await.expect("another created it");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn wrong_usage_of_sessions_is_reported() {
    let redis = TestRedis::new().await;
    for wrong in [
        &["create"][..],
        &["create", "--user", "a b"],
        &["create", "--user", "ann", "--role", "king"],
        &["revoke"],
        &["revoke", "x"],
        &["revoke", "--user", "ann", &"A".repeat(43)],
        &["revoke", "--user", "ann", "--created-by", "token:shop"],
    ] {
        assert_eq!(run(&redis, wrong).await.code, Some(2), "{wrong:?}");
    }
    let output = run(&redis, &["create", "--user", "ann", "--lifetime", "99days"]).await;
    assert!(output.code == Some(1) && output.err.contains("sessions.max_lifetime"), "{output:?}");
    let output = finish(program(["sessions", "list", "--user", "ann"])).await;
    assert!(output.code == Some(1) && output.err.contains("sessions.url (REDIS_URL) is not set"), "{output:?}");
    let away = TestRedis { url: "redis://:s3cret@127.0.0.1:1/0".into(), ..redis };
    let output = run(&away, &["list", "--user", "ann"]).await;
    assert!(
        output.code == Some(1) && output.err.contains("Redis is unreachable") && !output.err.contains("s3cret"),
        "{output:?}"
    );
}
