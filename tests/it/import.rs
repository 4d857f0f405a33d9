//! `reservd events import`: imports good lines, reports bad ones by number and reason, and is safe to repeat, even
//! after an interruption.

use sqlx::{Connection, Executor};

use crate::support::{
    TestServer,
    process::{CommandOutput, TempFolder, finish, program, run},
};

async fn import(server: &TestServer, file: &str) -> CommandOutput {
    run(&["events", "import", file, "--server", &format!("http://{}", server.app.address)]).await
}

fn assert_tally(output: &CommandOutput, created: usize, existing: usize, bad: usize) {
    let tally = format!("{created} events created, {existing} existing, {bad} bad lines\n");
    assert_eq!((output.out.as_str(), output.code), (tally.as_str(), Some(i32::from(bad > 0))), "{output:?}");
}

async fn events(server: &TestServer) -> i64 {
    let mut sql = server.sql().await;
    let count = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut sql);
    count.await.expect("events can be counted")
}

#[tokio::test]
async fn a_repeated_import_changes_nothing() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let content = "event_id,display_name,series,venue,start_time,end_time,capacity\n\
        UA1545,\"Newark, to Houston\",UA1545,EWR,2013-01-01T05:17:00-05:00,2013-01-01T08:30:00-05:00,149\n\
        plain,,,,,, 7 \n\
        köln-is-no-id,,,,,,1\n\
        quoted,\"two\"\"quotes\",,,,,0\n";
    let file = folder.file("events.csv", content.replace("köln-is-no-id", "koeln"));

    assert_tally(&import(&server, &file).await, 4, 0, 0);
    let event = server.get_event("UA1545").await;
    assert_eq!((event.display_name.as_str(), event.series.as_str()), ("Newark, to Houston", "UA1545"));
    assert_eq!((event.venue.as_str(), event.capacity, event.version), ("EWR", 149, 1));
    assert_eq!(
        (event.start_time.expect("set").seconds, event.end_time.expect("set").seconds),
        (1357035420, 1357047000)
    );
    assert_eq!(server.get_event("plain").await.capacity, 7);
    assert_eq!(server.get_event("quoted").await.display_name, "two\"quotes");

    let again = import(&server, &file).await;
    assert_tally(&again, 0, 4, 0);
    assert_eq!(again.err, "");
    assert_eq!(server.get_event("UA1545").await.version, 1);
    server.check_and_stop().await;
}

#[tokio::test]
async fn bad_lines_are_reported_and_good_ones_imported() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let long = "x".repeat(129);
    let lines: Vec<(Vec<u8>, Option<&str>)> = vec![
        (b"good,5,,".into(), None),
        (b"few,5".into(), Some("has 2 fields, the header line 4")),
        (b"many,5,,,".into(), Some("has 5 fields, the header line 4")),
        (b"number,five,,".into(), Some("capacity \"five\" is not a whole number")),
        (b"fraction,1.5,,".into(), Some("capacity \"1.5\" is not a whole number")),
        (b"none,,,".into(), Some("capacity \"\" is not a whole number")),
        (b"huge,99999999999,,".into(), Some("capacity \"99999999999\" is not a whole number")),
        (b"large,1000000001,,".into(), Some("capacity must be from 0 to 1000000000")),
        (b"negative,-1,,".into(), Some("capacity must be from 0 to 1000000000")),
        (b"time,5,tomorrow,".into(), Some("start_time \"tomorrow\" is not an RFC 3339 time")),
        (b"day,5,2013-02-30T00:00:00Z,".into(), Some("start_time \"2013-02-30T00:00:00Z\" is not an RFC 3339 time")),
        (
            b"backwards,5,2013-01-02T00:00:00Z,2013-01-01T00:00:00Z".into(),
            Some("end_time must not be before start_time"),
        ),
        (b",5,,".into(), Some("event_id is empty")),
        (format!("{long},5,,").into(), Some("event_id must be 1 to 128 visible ASCII characters")),
        (b"a b,5,,".into(), Some("event_id must be 1 to 128 visible ASCII characters")),
        (b"nul\0,5,,".into(), Some("event_id must be 1 to 128 visible ASCII characters")),
        (b"\xff\xfe,5,,".into(), Some("is not valid UTF-8")),
        (b"good,5,,".into(), None),
        (b"good,6,,".into(), Some("event good exists with another capacity")),
        (b"".into(), None),
        (b"\"two\nlines\",5,,".into(), Some("event_id must be 1 to 128 visible ASCII characters")),
        (b"worse,-1,2013-01-02T00:00:00Z,2013-01-01T00:00:00Z".into(), Some("capacity must be from")),
        (b"last,0,2013-01-01T00:00:00Z,2013-01-01T00:00:00Z".into(), None),
    ];
    for (name, newline) in [("unix.csv", "\n"), ("windows.csv", "\r\n")] {
        let mut content = b"event_id,capacity,start_time,end_time".to_vec();
        let (mut number, mut expected) = (1, Vec::new());
        for (line, reason) in &lines {
            content.extend_from_slice(newline.as_bytes());
            content.extend_from_slice(line);
            number += 1;
            expected.extend(reason.map(|reason| (number, reason)));
            number += line.iter().filter(|byte| **byte == b'\n').count();
        }
        let output = import(&server, &folder.file(name, content)).await;
        for (number, reason) in &expected {
            let start = format!("line {number}: ");
            let line = output.err.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("{name}: line {number} is not told: {}", output.err));
            assert!(line.contains(reason), "{name}: {reason:?} is not in {line:?}");
        }
        assert_eq!(output.err.lines().count(), expected.len() + 1, "{}", output.err);
        assert!(output.err.ends_with(&format!("reservd: {} bad lines\n", expected.len())), "{}", output.err);
        let (created, existing) = if name == "unix.csv" { (2, 1) } else { (0, 3) };
        assert_tally(&output, created, existing, expected.len());
    }
    assert_eq!(events(&server).await, 2);
    server.check_and_stop().await;
}

#[tokio::test]
async fn an_existing_event_with_the_same_fields_counts_as_imported() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    server.event("alike", 5).await;
    server.event("unlike", 5).await;
    let file = folder.file("events.csv", "event_id,capacity\nalike,5\nunlike,6\nnew,7\n");
    let output = import(&server, &file).await;
    assert_tally(&output, 1, 1, 1);
    assert!(output.err.starts_with("line 3: event unlike exists with another capacity\n"), "{output:?}");
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
    let insert = "BEGIN; INSERT INTO events (event_id, display_name, state, max_quantity, hold_ttl_default,
        hold_ttl_max, max_extensions, capacity, held, confirmed, version, waiting, create_time, update_time)
        VALUES ('event-0700', '', 'OPEN', 1, 1, 1, 0, 5, 0, 0, 1, 0, now(), now())";
    other.execute(insert).await.expect("inserted");

    let address = format!("http://{}", server.app.address);
    let mut importer = program(["events", "import", &file, "--server", &address]).spawn().expect("it can be started");
    server.waiting(1).await;
    importer.kill().await.expect("it can be killed");
    assert_eq!(events(&server).await, 500, "the first batch is there, the second is not half there");
    other.execute("ROLLBACK").await.expect("rolled back");
    other.close().await.expect("closed");

    let output = import(&server, &file).await;
    let created: usize = output.out.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    // The server may still complete the second batch of the killed import.
    assert!([700, 200].contains(&created), "{output:?}");
    assert_tally(&output, created, 1200 - created, 0);
    assert_eq!(events(&server).await, 1200);
    assert_tally(&import(&server, &file).await, 0, 1200, 0);
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_malformed_file_is_refused_before_any_call() {
    let folder = TempFolder::new();
    let cases: [(&[u8], &str); 6] = [
        (b"", "the header line has no column event_id"),
        (b"event_id\na\n", "the header line has no column capacity"),
        (b"capacity\n1\n", "the header line has no column event_id"),
        (b"event_id,capacity,colour\n", "unknown column \"colour\"; the columns are event_id, display_name"),
        (b"event_id,capacity,capacity\n", "the header line has the column capacity twice"),
        (b"\xff,capacity\n", "the header line is not valid UTF-8"),
    ];
    for (content, problem) in cases {
        let file = folder.file("bad.csv", content);
        // There is no server, so a call would fail.
        let output = run(&["events", "import", &file, "--server", "http://127.0.0.1:1"]).await;
        assert_eq!((output.code, output.out.as_str()), (Some(1), ""));
        assert!(output.err.starts_with(&format!("reservd: {file}: {problem}")), "{output:?}");
        assert_eq!(output.err.lines().count(), 1, "{output:?}");
    }
    let missing = run(&["events", "import", "/nowhere/events.csv"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("reservd: cannot read /nowhere/events.csv: "), "{missing:?}");
}

#[tokio::test]
async fn a_file_of_a_spreadsheet_is_read_and_a_missing_server_reported() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    // A byte order mark, CRLF, columns in another order, no newline at the end.
    let file = folder.file("sheet.csv", b"\xEF\xBB\xBFcapacity,event_id\r\n5,first\r\nx,second\r\n7,third");
    let output = import(&server, &file).await;
    assert_tally(&output, 2, 0, 1);
    assert!(output.err.starts_with("line 3: capacity \"x\" is not a whole number\n"), "{output:?}");
    assert_eq!(server.get_event("first").await.capacity, 5);
    server.check_and_stop().await;

    let mut command = program(["events", "import", &file]);
    command.env("RESERVD_ADDRESS", "http://127.0.0.1:1");
    let output = finish(command).await;
    assert_eq!((output.code, output.err.as_str()), (Some(1), "reservd: no server responds at http://127.0.0.1:1\n"));
}
