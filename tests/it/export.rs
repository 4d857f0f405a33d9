//! `reservd event export`: an import of what it writes changes nothing, and gives another server the same events.

use reservd::rpc::pb;

use crate::support::{
    TestServer,
    process::{CommandOutput, TempFolder, run},
};

async fn events(server: &TestServer, arguments: &[&str]) -> CommandOutput {
    let address = format!("http://{}", server.app.address);
    run(&[&["event"], arguments, &["--server", &address]].concat()).await
}

/// The export of all events.
async fn exported(server: &TestServer) -> String {
    let output = events(server, &["export"]).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:?}");
    output.out
}

const EVENTS: &str = "event_id,capacity,display_name,series_id,venue_id,start_time,end_time,booking_open_time,\
    booking_close_time,max_quantity,hold_ttl_default,hold_ttl_max,max_extensions,waitlist_enabled,waitlist_max_size,\
    waitlist_offer_ttl,waitlist_order,waitlist_max_skips,waitlist_newcomers_may_overtake,state,cancel_reason,\
    label.genre,label.shop/id\n\
    full,9,\"Hamlet, \"\"the\"\" play\",S-1,hall-1,2030-05-01T19:30:00+02:00,2030-05-01T22:00:00.5Z,\
    2030-01-01T00:00:00Z,2030-05-01T00:00:00Z,4,90s,1h 30m,0,yes,7,1day,skip_too_large,2,true,closed,,drama,'\n\
    off,5,'=1+1,,,,,,,,,,,,,,,,,CANCELLED,' ill,,0012\n\
    plain,0, Köln ,,,,,,,,2h,,,false,,,,,,,,'',\n";

#[tokio::test]
async fn an_import_of_an_export_changes_nothing() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let folder = TempFolder::new();
    let first = events(&server, &["import", &folder.file("first.csv", EVENTS)]).await;
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""), "{first:?}");
    let off = server.get_event("off").await;
    assert_eq!(
        (off.state(), off.display_name.as_str(), off.cancel_reason.as_str()),
        (pb::EventState::Cancelled, "=1+1", "' ill")
    );

    let csv = exported(&server).await;
    let file = folder.file("exported.csv", &csv);
    let again = events(&server, &["import", &file]).await;
    let nothing = "0 events created, 3 existing, 0 different, 0 cancelled, 0 bad lines, 0 lines not read\n";
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (Some(0), nothing, ""));
    assert_eq!(exported(&server).await, csv);

    let copied = events(&other, &["import", &file]).await;
    assert_eq!(copied.code, Some(0), "{copied:?}");
    assert_eq!(exported(&other).await, csv);
    for id in ["full", "off", "plain"] {
        let (mut original, mut copy) = (server.get_event(id).await, other.get_event(id).await);
        for event in [&mut original, &mut copy] {
            (event.create_time, event.update_time) = (None, None);
        }
        assert_eq!(original, copy);
    }
    server.check_and_stop().await;
    other.check_and_stop().await;
}

#[tokio::test]
async fn the_filters_choose_what_is_exported() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let lines = "event_id,capacity,series_id,venue_id,start_time,state\n\
        a,1,S-1,hall-1,2030-01-01T00:00:00Z,OPEN\n\
        b,1,S-1,hall-2,2030-02-01T00:00:00Z,CLOSED\n\
        c,1,S-2,hall-1,2030-03-01T00:00:00Z,CANCELLED\n";
    events(&server, &["import", &folder.file("events.csv", lines)]).await;
    for (filters, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["--series", "S-1"], &["a", "b"]),
        (&["--venue", "hall-1"], &["a", "c"]),
        (&["--state", "closed", "--state", "cancelled"], &["b", "c"]),
        (&["--start-time-from", "2030-02-01T01:00:00+01:00", "--start-time-before", "2030-03-01T00:00:00Z"], &["b"]),
        (&["--series", "S-3"], &[]),
    ] {
        let output = events(&server, &[&["export"], filters].concat()).await;
        let ids: Vec<_> = output.out.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        assert_eq!((ids.as_slice(), output.code), (expected, Some(0)), "{filters:?}: {output:?}");
    }
    let wrong = events(&server, &["export", "--start-time-from", "2030-02-01"]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_file_is_written_whole_with_a_byte_order_mark_if_asked() {
    let server = TestServer::start().await;
    let folder = TempFolder::new();
    let ids: Vec<_> = (0..1200).map(|number| format!("event-{number:04}")).collect();
    let lines: String = ids.iter().map(|id| format!("{id},5\n")).collect();
    events(&server, &["import", &folder.file("events.csv", format!("event_id,capacity\n{lines}"))]).await;
    let file = folder.path("exported.csv").display().to_string();
    let output = events(&server, &["export", &file, "--bom"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), "1200 events exported\n"), "{output:?}");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(text.starts_with("\u{feff}event_id,capacity,"), "{}", &text[..40]);
    let written: Vec<_> = text.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(written, ids);
    let output = events(&server, &["export", "/nowhere/events.csv"]).await;
    assert!(output.err.starts_with("reservd: cannot write /nowhere/events.csv: "), "{output:?}");
    server.check_and_stop().await;
}
