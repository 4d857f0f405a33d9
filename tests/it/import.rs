//! `reservd event import`: imports good lines, compares what exists, and is safe to repeat, even after an
//! interruption. `import_files.rs` has the messy files.

use reservd::rpc::pb;
use sqlx::{Connection, Executor};

use crate::support::{
    TestServer,
    process::{CommandOutput, TempFolder, program, run},
};

async fn import(server: &TestServer, file: &str) -> CommandOutput {
    run(&["event", "import", file, "--server", &format!("http://{}", server.app.address)]).await
}

/// Checks the counts: events created, existing, different and cancelled, bad lines, lines not read.
fn assert_tally(output: &CommandOutput, counts: [usize; 6]) {
    let [created, existing, different, cancelled, bad, unread] = counts;
    let tally = format!(
        "{created} events created, {existing} existing, {different} different, {cancelled} cancelled, {bad} bad lines, \
         {unread} lines not read\n"
    );
    let code = i32::from(different + cancelled + bad + unread > 0);
    assert_eq!((output.out.as_str(), output.code), (tally.as_str(), Some(code)), "{output:?}");
}

/// Begins a transaction that creates an event, as another client might.
const INSERT: &str = "BEGIN; INSERT INTO events (event_id, display_name, series_display_name,
    venue_display_name, state, max_quantity, hold_ttl_default, hold_ttl_max, max_extensions, capacity, held, confirmed,
    version, waiting, definition_version, create_time, update_time)
    VALUES ('event-0700', '', '', '', 'OPEN', 1, 1, 1, 0, 5, 0, 0, 1, 0, 1, now(), now())";

async fn events(server: &TestServer) -> i64 {
    let mut sql = server.sql().await;
    let count = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut sql);
    count.await.expect("events can be counted")
}

#[tokio::test]
async fn a_repeated_import_changes_nothing() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let content = "event_id,display_name,series_id,venue_id,start_time,end_time,capacity\n\
        UA1545,\"Newark, to Houston\",UA1545,EWR,2013-01-01T05:17:00-05:00,2013-01-01T08:30:00-05:00,149\n\
        plain,,,,,, 7 \n\
        köln-is-no-id,,,,,,1\n\
        quoted,\"two\"\"quotes\",,,,,0\n";
    let file = folder.file("events.csv", content.replace("köln-is-no-id", "koeln"));

    assert_tally(&import(&server, &file).await, [4, 0, 0, 0, 0, 0]);
    let event = server.get_event("UA1545").await;
    assert_eq!((event.display_name.as_str(), event.series_id.as_str()), ("Newark, to Houston", "UA1545"));
    assert_eq!((event.venue_id.as_str(), event.capacity, event.version), ("EWR", 149, 1));
    assert_eq!(
        (event.start_time.expect("set").seconds, event.end_time.expect("set").seconds),
        (1357035420, 1357047000)
    );
    assert_eq!(server.get_event("plain").await.capacity, 7);
    assert_eq!(server.get_event("quoted").await.display_name, "two\"quotes");

    let again = import(&server, &file).await;
    assert_tally(&again, [0, 4, 0, 0, 0, 0]);
    assert_eq!(again.err, "");
    assert_eq!(server.get_event("UA1545").await.version, 1);
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_existing_event_is_compared_with_its_line_and_never_changed() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let file = folder.file(
        "events.csv",
        "event_id,capacity,display_name,label.genre\n\
        same,5,Hamlet,drama\nlarger,5,Hamlet,drama\nrenamed,5,Hamlet,drama\ncalled-off,5,Hamlet,drama\nclosed,5,Hamlet,drama\n",
    );
    assert_tally(&import(&server, &file).await, [5, 0, 0, 0, 0, 0]);

    let update = async |event: pb::Event| {
        let request = pb::UpdateEventRequest { event: Some(event), ..Default::default() };
        server.events().update_event(request).await.expect("the event can be changed");
    };
    update(pb::Event { event_id: "larger".into(), capacity: 9, ..Default::default() }).await;
    let labels = [("genre".to_owned(), "comedy".to_owned())].into();
    update(pb::Event { event_id: "renamed".into(), display_name: "Much Ado".into(), labels, ..Default::default() })
        .await;
    // Not in the file, so it does not differ.
    update(pb::Event { event_id: "same".into(), venue_id: "hall-1".into(), ..Default::default() }).await;
    let close = pb::CloseEventRequest { event_id: "closed".into(), ..Default::default() };
    server.events().close_event(close).await.expect("the event can be closed");
    let cancel = pb::CancelEventRequest { event_id: "called-off".into(), ..Default::default() };
    server.events().cancel_event(cancel).await.expect("the event can be cancelled");

    let again = import(&server, &file).await;
    assert_tally(&again, [0, 2, 2, 1, 0, 0]);
    let expected = "line 3: the event differs: capacity is 9, the line says 5\n\
        line 4: the event differs: display_name is \"Much Ado\", the line says \"Hamlet\"; \
        label.genre is \"comedy\", the line says \"drama\"\n\
        line 5: the event is cancelled\n\
        reservd: 3 lines are not imported\n";
    assert_eq!(again.err, expected);
    assert_eq!(server.get_event("larger").await.capacity, 9);

    let file =
        folder.file("states.csv", "event_id,capacity,state\ncalled-off,5,CANCELLED\nclosed,5,OPEN\nsame,5,CANCELLED\n");
    let states = import(&server, &file).await;
    assert_tally(&states, [0, 1, 2, 0, 0, 0]);
    assert!(states.err.contains("line 3: the event differs: state is CLOSED, the line says OPEN\n"), "{states:?}");
    assert!(states.err.contains("line 4: the event differs: state is OPEN, the line says CANCELLED\n"), "{states:?}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_event_that_another_client_creates_meanwhile_is_compared() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let mut other = server.sql().await;
    other.execute(INSERT).await.expect("inserted");
    let file = folder.file("events.csv", "event_id,capacity\nevent-0700,5\nevent-0701,5\n");
    let importing = import(&server, &file);
    let creating = async {
        server.waiting(1).await;
        other.execute("COMMIT").await.expect("committed");
    };
    let (output, ()) = tokio::join!(importing, creating);
    assert_tally(&output, [1, 1, 0, 0, 0, 0]);
    // It was created without its change.
    other.execute("DELETE FROM events WHERE event_id = 'event-0700'").await.expect("deleted");
    server.check_and_stop().await;
}

#[tokio::test]
async fn of_a_hundred_thousand_lines_behind_an_open_quote_one_is_reported() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let lines: String = (4..=100_001).map(|line| format!("event-{line},5,a name\n")).collect();
    let content = format!("event_id,capacity,display_name\nfirst,5,ok\nbroken,\"5,ok\n{lines}");
    let output = import(&server, &folder.file("events.csv", content)).await;
    assert_tally(&output, [1, 0, 0, 0, 0, 99_999]);
    let expected = "line 3, column capacity: a quote is opened and never closed; lines 3 to 100001 were not read; \
        add the closing quote\nreservd: 99999 lines are not imported\n";
    assert_eq!(output.err, expected);
    server.check_and_stop().await;
}

#[tokio::test]
async fn the_next_import_finishes_a_killed_one() {
    let server = TestServer::with(&[("server.default_deadline", "60s")]).await;
    let folder = TempFolder::new();
    let ids: Vec<_> = (0..1200).map(|number| format!("event-{number:04}")).collect();
    let lines: String = ids.iter().map(|id| format!("{id},5\n")).collect();
    let file = folder.file("events.csv", format!("event_id,capacity\n{lines}"));
    // Another transaction creates an event of the second batch, which waits for it.
    let mut other = server.sql().await;
    other.execute(INSERT).await.expect("inserted");

    let address = format!("http://{}", server.app.address);
    let mut importer = program(["event", "import", &file, "--server", &address]).spawn().expect("it can be started");
    server.waiting(1).await;
    importer.kill().await.expect("it can be killed");
    assert_eq!(events(&server).await, 500, "the first batch is there, the second is not half there");
    other.execute("ROLLBACK").await.expect("rolled back");
    other.close().await.expect("closed");

    let output = import(&server, &file).await;
    let created: usize = output.out.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    // The server may still complete the second batch of the killed import.
    assert!([700, 200].contains(&created), "{output:?}");
    assert_tally(&output, [created, 1200 - created, 0, 0, 0, 0]);
    assert_eq!(events(&server).await, 1200);
    assert_tally(&import(&server, &file).await, [0, 1200, 0, 0, 0, 0]);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_malformed_file_is_refused_before_any_call() {
    let folder = TempFolder::new();
    let file = folder.file("bad.csv", "event_id,colour\na,5\n");
    // There is no server, so a call would fail.
    let output = run(&["event", "import", &file, "--server", "http://127.0.0.1:1"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(1), ""));
    assert!(output.err.starts_with(&format!("reservd: {file}: line 1: the header line has no")), "{output:?}");
    assert_eq!(output.err.lines().count(), 1, "{output:?}");
    let missing = run(&["event", "import", "/nowhere/events.csv"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("reservd: cannot read /nowhere/events.csv: "), "{missing:?}");
}
