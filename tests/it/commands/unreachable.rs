//! Commands whose server is not there, or does not answer.

use tokio::net::TcpListener;

use crate::support::process::{TempFolder, finish, program, run};

#[tokio::test]
async fn a_server_that_is_not_there_is_one_line() {
    let folder = TempFolder::new();
    let csv = folder.file("events.csv", "event_id,capacity\na,5\n");
    for command in [
        &["event", "list"][..],
        &["event", "create", "a", "--capacity", "1"],
        &["event", "import", &csv],
        &["reservation", "reserve", "a", "ann"],
        &["waitlist", "list", "--user", "ann"],
        &["watch", "a"],
        &["top"],
        &["healthcheck"],
    ] {
        let flag = run(&[command, &["--server", "http://127.0.0.1:1"]].concat()).await;
        let expected = "reservd: no server responds at http://127.0.0.1:1; is it running, and is --server right?\n";
        assert_eq!((flag.code, flag.err.as_str()), (Some(1), expected), "{command:?}");

        let setting = run(&[command, &["--set", "server.listen=0.0.0.0:1"]].concat()).await;
        let expected =
            "reservd: no server responds at http://127.0.0.1:1 (server.listen); --server URL names another\n";
        assert_eq!((setting.code, setting.err.as_str()), (Some(1), expected), "{command:?}");
    }
}

#[tokio::test]
async fn sessions_without_redis_say_which_setting_is_missing_or_wrong() {
    let list = ["sessions", "list", "--user", "ann"];
    let output = run(&list).await;
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("--set sessions.url=redis://"), "{output:?}");
    let output = run(&[&list[..], &["--set", "sessions.url=redis://127.0.0.1:1"]].concat()).await;
    assert_eq!((output.code, output.err.lines().count()), (Some(1), 1), "{output:?}");
}

/// It accepts connections and answers nothing: the command can't know what became of its call.
#[tokio::test]
async fn a_mutation_without_an_answer_says_how_to_repeat_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let accepting = async {
        let mut open = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            open.push(connection);
        }
    };
    let reserve = ["reservation", "reserve", "a", "ann", "--request-id", "order-7", "--timeout", "50ms"];
    let output = finish(program([&reserve[..], &["--server", &url]].concat()));
    let output = tokio::select! {
        () = accepting => unreachable!("it accepts for ever"),
        output = output => output,
    };
    assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{output:?}");
    let repeat = "; repeat the command with --request-id order-7 to know whether it was done\n";
    assert!(output.err.ends_with(repeat) && output.err.lines().count() == 1, "{output:?}");
}
