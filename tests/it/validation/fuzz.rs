//! Some thousands of requests of every RPC, made of hostile values: each is answered properly, whatever
//! it is, and the books stay right.

use std::collections::BTreeMap;

use fastrand::Rng;
use futures::{StreamExt, stream};
use prost_types::{Duration, FieldMask, Timestamp};
use reservd::rpc::pb::{self, reservation_selector::Selector, *};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::short;
use crate::support::{Call, TestServer};

const REQUESTS: usize = 4000;
/// Words that only PostgreSQL, or what speaks to it, would use.
const SQL: [&str; 14] = [
    "select",
    "insert",
    "constraint",
    "sqlstate",
    "relation",
    "syntax",
    "column",
    "sqlx",
    "postgres",
    "duplicate key",
    "violates",
    "transaction",
    "deadlock",
    "panicked",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_answered_with_our_own_defects() {
    let seed = fastrand::u64(..);
    let server = TestServer::start().await;
    for n in 0..4 {
        server.event(&format!("event-{n}"), 50).await;
    }
    let mut values = Values(Rng::with_seed(seed));
    let calls: Vec<Call> = (0..REQUESTS).map(|_| values.call()).collect();
    let answers = stream::iter(calls).map(async |call| {
        let asked = short(&call);
        (asked, call.send(&server).await)
    });
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let answers: Vec<_> = answers.buffer_unordered(16).collect().await;
    for (asked, answer) in answers {
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        *codes.entry(format!("{code:?}")).or_default() += 1;
        if let Err(status) = answer {
            assert_is_proper(&status, &format!("seed {seed}: {asked}"));
        }
    }
    // A fuzz whose every request is refused at the door would test the door only.
    for code in ["Ok", "InvalidArgument", "NotFound", "FailedPrecondition"] {
        assert!(codes.contains_key(code), "seed {seed}: {codes:?}");
    }
    server.event("after", 1).await;
    server.check_and_stop().await;
}

fn assert_is_proper(status: &Status, asked: &str) {
    let ours = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable, Code::DeadlineExceeded];
    assert!(!ours.contains(&status.code()), "{asked}: {status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {asked}: {status:?}"));
    assert_eq!(info.domain, "reservd");
    let said = format!("{} {:?}", status.message(), status.get_error_details()).to_lowercase();
    // The caller's own words are no word of ours.
    let said = said.replace("'; drop table", "");
    for word in SQL {
        assert!(!said.contains(word), "{word:?} in the answer to {asked}: {said}");
    }
}

/// Values that programs trip over, among some that are right.
struct Values(Rng);

impl Values {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.0.usize(..from.len())].clone()
    }

    fn text(&mut self) -> String {
        let fixed = [
            "",
            "a",
            " ",
            "\0",
            "a\0b",
            "\n",
            "é",
            "\u{202e}x",
            "\u{10ffff}",
            "NULL",
            "'; DROP TABLE events",
            "%s",
            "{}",
            "\\",
            "\"",
            "$1",
            "-1",
        ];
        match self.0.u8(..8) {
            0 => "x".repeat(self.pick(&[127, 128, 129, 256, 257, 512, 513, 5000])),
            1 => "ö".repeat(self.pick(&[63, 64, 128, 129, 256, 257])),
            _ => self.pick(&fixed).into(),
        }
    }

    fn event_id(&mut self) -> String {
        if self.0.u8(..5) == 0 { self.text() } else { format!("event-{}", self.0.u8(..6)) }
    }

    fn user_id(&mut self) -> String {
        if self.0.u8(..5) == 0 { self.text() } else { format!("user-{}", self.0.u8(..20)) }
    }

    /// Mostly nothing: what is set seldom still meets everything else.
    fn seldom(&mut self) -> String {
        if self.0.u8(..5) == 0 { self.text() } else { String::new() }
    }

    fn request_id(&mut self) -> String {
        if self.0.bool() { String::new() } else { format!("request-{}", self.0.u8(..)) }
    }

    fn etag(&mut self) -> String {
        let version = self.0.u8(..30);
        match self.0.u8(..12) {
            0 => self.text(),
            1 => format!("e{version}"),
            2 => format!("r{version}"),
            _ => String::new(),
        }
    }

    fn number(&mut self) -> i32 {
        self.pick(&[0, 1, 1, 2, 3, 5, 7, 50, -1, 1000, 1001, 10_000, 10_001, 1_000_000_001, i32::MIN, i32::MAX])
    }

    fn span(&mut self) -> Option<Duration> {
        let seconds = self.pick(&[0, 1, 60, 3600, 2_592_000, 2_592_001, -1, i64::MIN, i64::MAX]);
        let nanos = self.pick(&[0, 1, 999, 200_000_000, 999_999_999, 1_000_000_000, -1, i32::MIN, i32::MAX]);
        self.0.bool().then_some(Duration { seconds, nanos })
    }

    fn time(&mut self) -> Option<Timestamp> {
        let seconds = self.pick(&[
            0,
            1,
            -1,
            -62_135_596_800,
            -62_135_596_801,
            253_402_300_799,
            253_402_300_800,
            i64::MIN,
            i64::MAX,
            4_000_000_000,
        ]);
        let nanos = self.pick(&[0, 0, 0, 1, 999_999_999, 1_000_000_000, -1, i32::MIN]);
        (self.0.u8(..3) == 0).then_some(Timestamp { seconds, nanos })
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let count = self.pick(&[0, 0, 0, 0, 1, 2, 33]);
        (0..count)
            .map(|n| if self.0.u8(..8) == 0 { (self.text(), self.text()) } else { (format!("k{n}"), "v".into()) })
            .collect()
    }

    fn states(&mut self) -> Vec<i32> {
        (0..self.pick(&[0, 0, 1, 2, 17])).map(|_| self.pick(&[1, 2, 3, 4, 0, -1, 99])).collect()
    }

    fn options(&mut self) -> Option<ExecutionOptions> {
        let (strategy, lock_wait) = (self.pick(&[0, 1, 2, 1, 2, 3, -1]), self.pick(&[0, 1, 2, 1, 0, 3, i32::MAX]));
        self.0.bool().then_some(ExecutionOptions { strategy, lock_wait })
    }

    fn target(&mut self) -> Option<ReservationSelector> {
        let selector = match self.0.u8(..8) {
            0 => None,
            1 => Some(Selector::ReservationId(self.text())),
            2 => Some(Selector::ReservationId("0190b6d4-5b7e-7c3a-9f00-0123456789ab".into())),
            _ => Some(Selector::UserId(self.user_id())),
        };
        (self.0.u8(..10) > 0).then_some(ReservationSelector { selector })
    }

    fn page_token(&mut self) -> String {
        let tokens = ["", "", "", "x", "AAAA", "%%%", "WyJhIixbMCwiYSJdXQ", "bnVsbA", "W10"];
        self.pick(&tokens).into()
    }

    fn event(&mut self) -> pb::Event {
        let limits = EventLimits {
            max_quantity: self.0.bool().then(|| self.number()),
            hold_ttl_default: self.span(),
            hold_ttl_max: self.span(),
            max_extensions: self.0.bool().then(|| self.number()),
        };
        Event {
            event_id: self.event_id(),
            display_name: self.seldom(),
            series: self.seldom(),
            venue: self.seldom(),
            start_time: self.time(),
            end_time: self.time(),
            capacity: self.number(),
            limits: (self.0.u8(..3) == 0).then_some(limits),
            booking_open_time: self.time(),
            booking_close_time: self.time(),
            labels: self.labels(),
            state: self.number(),
            held: self.number(),
            version: self.number().into(),
            ..Default::default()
        }
    }

    fn create(&mut self) -> CreateEventRequest {
        let event = self.event();
        let event = (self.0.u8(..10) > 0).then_some(event);
        CreateEventRequest { event, request_id: self.request_id(), start_closed: self.0.bool() }
    }

    fn mask(&mut self) -> Option<FieldMask> {
        let paths = [
            "*",
            "capacity",
            "labels",
            "limits",
            "limits.max_quantity",
            "start_time",
            "end_time",
            "series",
            "display_name",
            "state",
            "",
            "\0",
            "limits.",
            "capacity",
        ];
        let paths = (0..self.pick(&[0, 1, 1, 2, 5])).map(|_| self.pick(&paths).into()).collect();
        self.0.bool().then_some(FieldMask { paths })
    }

    fn call(&mut self) -> Call {
        let (event_id, request_id, etag) = (self.event_id(), self.request_id(), self.etag());
        let (quantity, options) = (self.number(), self.options());
        let (reservation, validate_only) = (self.target(), self.0.u8(..8) == 0);
        match self.0.u8(..24) {
            0 => self.create().into(),
            1 => BatchCreateEventsRequest { requests: (0..self.pick(&[0, 1, 2, 5])).map(|_| self.create()).collect() }
                .into(),
            2 => GetEventRequest { event_id }.into(),
            3 => ListEventsRequest {
                series: self.seldom(),
                venue: self.seldom(),
                states: self.states(),
                start_time_from: self.time(),
                start_time_before: self.time(),
                page_size: self.number(),
                page_token: self.page_token(),
            }
            .into(),
            4 => UpdateEventRequest { event: Some(self.event()), update_mask: self.mask(), etag, request_id }.into(),
            5 => OpenEventRequest { event_id, etag, request_id }.into(),
            6 => CloseEventRequest { event_id, etag, request_id }.into(),
            // Seldom: it is for ever.
            7 if self.0.u8(..20) == 0 => CancelEventRequest { event_id, reason: self.text(), etag, request_id }.into(),
            8 => GetAvailabilityRequest { event_id }.into(),
            9 => BatchGetAvailabilityRequest {
                event_ids: (0..self.pick(&[0, 1, 2, 5, 1001])).map(|_| self.event_id()).collect(),
            }
            .into(),
            10 => VerifyEventRequest { event_id }.into(),
            11 => GetReservationRequest { event_id, reservation }.into(),
            12 => ListReservationsRequest {
                event_id: self.seldom(),
                user_id: self.user_id(),
                states: self.states(),
                page_size: self.number(),
                page_token: self.page_token(),
            }
            .into(),
            13 => RunConcurrencyTestRequest {
                strategy: self.pick(&[0, 1, 2, 9]),
                operations: self.pick(&[1, 5, -1, i32::MAX]),
                concurrency: self.pick(&[1, 4, 513]),
                workload: self.pick(&[0, 1, 2, 3]),
                ..Default::default()
            }
            .into(),
            14 | 15 => ConfirmRequest {
                event_id,
                reservation,
                quantity: self.pick(&[0, 0, 1, quantity]),
                etag,
                request_id,
                validate_only,
                options,
            }
            .into(),
            16 | 17 => CancelRequest {
                event_id,
                reservation,
                quantity: self.pick(&[0, 0, 1, quantity]),
                reason: self.seldom(),
                etag,
                request_id,
                validate_only,
                options,
            }
            .into(),
            18 | 19 => {
                ExtendRequest { event_id, reservation, ttl: self.span(), etag, request_id, validate_only, options }
                    .into()
            }
            20 | 21 => AmendRequest {
                event_id,
                reservation,
                quantity,
                labels: self.labels(),
                clear_labels: self.0.u8(..5) == 0,
                etag,
                request_id,
                validate_only,
                options,
            }
            .into(),
            _ => ReserveRequest {
                event_id,
                user_id: self.user_id(),
                quantity,
                hold_ttl: self.span(),
                confirm: self.0.u8(..4) == 0,
                labels: self.labels(),
                etag,
                request_id,
                validate_only,
                options,
            }
            .into(),
        }
    }
}
