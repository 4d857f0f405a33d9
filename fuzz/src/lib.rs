//! The targets of `cargo fuzz`: each takes any bytes, and panics if something is read from them that must not
//! be. Whether they can be read at all is of no interest here.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use reservd::{
    auth::{claims::Expectations, jwks::KeySet, jws::Jws, session_token::SessionId},
    cli::event_file,
    config::{Config, PayloadFormat, StrategyDefaults},
    domain::{booking_close::BookingClose, ids::EventId, time::Timestamp},
    rpc::{
        decode::{Decoded, counts, event, event_state, history, reservation, session, waitlist},
        page_token, pb,
    },
};
use serde_json::Value;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::load(None, &Vec::new()).expect("the defaults are right"));

/// What a decoder may answer: something, or which fields are bad.
fn is_proper<T>(decoded: Result<T, Status>) {
    let Err(status) = decoded else { return };
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let bad = status.get_details_bad_request().expect("the bad fields");
    assert!(!bad.field_violations.is_empty() && status.get_details_error_info().is_some(), "{status:?}");
    // It travels in headers.
    let mut headers = tonic::codegen::http::HeaderMap::new();
    status.add_header(&mut headers).expect("it can be told");
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(size < 8 * 1024, "{size} bytes of headers");
}

/// An order that is read from the same message again stands for the same request.
fn order<M: Message + Default + Clone>(bytes: &[u8], read: impl Fn(M, Instant) -> Result<Decoded, Status>) {
    let Ok(message) = M::decode(bytes) else { return };
    let now = Instant::now();
    let decoded = read(message.clone(), now);
    if let Ok((command, _)) = &decoded {
        let (again, _) =
            read(M::decode(message.encode_to_vec().as_slice()).expect("just encoded"), now).expect("as before");
        assert_eq!(
            (&command.event_id, &command.etag, command.expected_event_version, &command.request),
            (&again.event_id, &again.etag, again.expected_event_version, &again.request)
        );
    }
    is_proper(decoded);
}

/// The requests of every RPC that decodes more than an id: the first byte says which.
pub fn requests(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let defaults: StrategyDefaults = CONFIG.strategy;
    match which % 21 {
        0 => order(bytes, |m, at| reservation::reserve(m, defaults, at)),
        1 => order(bytes, |m, at| reservation::confirm(m, defaults, at)),
        2 => order(bytes, |m, at| reservation::cancel(m, defaults, at)),
        3 => order(bytes, |m, at| reservation::extend(m, defaults, at)),
        4 => order(bytes, |m, at| reservation::amend(m, defaults, at)),
        5 => order(bytes, |m, at| waitlist::join(m, defaults, at)),
        6 => order(bytes, |m, at| waitlist::leave(m, defaults, at)),
        7 => order(bytes, |m, at| event::update_event(m, defaults, at)),
        8 => order(bytes, |m, at| event_state::cancel(m, defaults, at)),
        9 => {
            pb::CreateEventRequest::decode(bytes).map_or((), |m| is_proper(event::create_event(m, BookingClose::Never)))
        }
        10 => pb::BatchCreateEventsRequest::decode(bytes)
            .map_or((), |m| is_proper(event::batch_create_events(m, BookingClose::Never))),
        11 => pb::ListChangesRequest::decode(bytes).map_or((), |m| is_proper(history::list_changes(&m))),
        12 => pb::WatchChangesRequest::decode(bytes).map_or((), |m| is_proper(history::watch_changes(&m))),
        13 => pb::ListWaitlistRequest::decode(bytes).map_or((), |m| is_proper(waitlist::list_filter(&m))),
        14 => pb::SearchReservationsRequest::decode(bytes).map_or((), |m| is_proper(reservation::search(&m))),
        15 => pb::ListEventCountsRequest::decode(bytes).map_or((), |m| is_proper(counts::event_counts(&m))),
        16 => order(bytes, |m, at| event_state::open(m, defaults, at)),
        17 => order(bytes, |m, at| event_state::close(m, defaults, at)),
        18 => order(bytes, |m, at| event_state::delete(m, defaults, at)),
        19 => order(bytes, |m, at| waitlist::amend(m, defaults, at)),
        _ => order(bytes, |m, at| waitlist::promote(m, defaults, at)),
    }
}

/// Commands as RabbitMQ brings them, in JSON: what is read is written and read again as the same.
pub fn commands(data: &[u8]) {
    fn command<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, bytes: &[u8]) {
        let Ok(message) = PayloadFormat::Json.read::<M>(name, bytes) else { return };
        let written = PayloadFormat::Json.write(name, &message);
        assert_eq!(PayloadFormat::Json.read::<M>(name, &written).as_ref(), Ok(&message));
    }
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 4 {
        0 => command::<pb::ReserveRequest>("reservd.v1.ReserveRequest", bytes),
        1 => command::<pb::ConfirmRequest>("reservd.v1.ConfirmRequest", bytes),
        2 => command::<pb::CancelRequest>("reservd.v1.CancelRequest", bytes),
        _ => command::<pb::ExtendRequest>("reservd.v1.ExtendRequest", bytes),
    }
}

/// Tokens, what is signed in them, and the keys for them. No bytes are a good signature.
pub fn tokens(data: &[u8]) {
    const NOW: i64 = 1_800_000_000;
    static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
        let key = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        KeySet::parse(key.as_bytes()).expect("a key")
    });
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => {
            let Some(jws) = std::str::from_utf8(bytes).ok().and_then(|text| Jws::parse(text).ok()) else { return };
            if let Ok(key) = KEYS.find(jws.kid.as_deref(), jws.algorithm) {
                // The example of RFC 8037 is signed by this key, and holds no claims.
                assert!(jws.payload_signed_by(key).map_or(true, |payload| payload == b"Example of Ed25519 signing"));
            }
        }
        1 => {
            if let Ok(claimed) = Expectations::new(&CONFIG.auth).check(bytes, NOW) {
                assert!(claimed.expires_at > NOW && claimed.principal.name.as_str().starts_with("token:"));
            }
        }
        _ => drop(KeySet::parse(bytes)),
    }
}

/// Tokens of sessions, the ids under which Redis has them, and the page tokens in which these travel: each has
/// one spelling, and no two tokens have one id.
pub fn session_tokens(data: &[u8]) {
    let of_bytes = |bytes: &[u8]| format!("rs_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let is_spelt_so = |id: SessionId, text: &str| {
        assert_eq!((id.to_string().as_str(), SessionId::parse(text)), (text, Some(id)));
    };
    let Some((which, bytes)) = data.split_first() else { return };
    let text = std::str::from_utf8(bytes);
    match (which % 4, text) {
        (0, Ok(tokens)) => {
            let mut known: Vec<(&str, SessionId)> = Vec::new();
            for token in tokens.split('\n') {
                let Ok(id) = SessionId::of_token(token) else { continue };
                let bytes = BASE64_URL_SAFE_NO_PAD.decode(&token[3..]).expect("what is in a token");
                assert_eq!((bytes.len(), of_bytes(&bytes).as_str()), (32, token));
                is_spelt_so(id, &id.to_string());
                assert!(!format!("{id:?}").contains(&token[3..]), "the id tells the token");
                assert!(known.iter().all(|(other, its_id)| (*other == token) == (*its_id == id)));
                known.push((token, id));
            }
        }
        (1, Ok(text)) => {
            if let Some(id) = SessionId::parse(text) {
                is_spelt_so(id, text);
            }
            session::session_id(text).map_or_else(|status| is_proper::<()>(Err(status)), |id| is_spelt_so(id, text));
        }
        (2, _) => assert_eq!(SessionId::of_token(&of_bytes(bytes)).is_ok(), bytes.len() == 32),
        (3, Ok(cursor)) => {
            let filters = pb::ListSessionsRequest::default();
            let Ok(cursor) = serde_json::from_str::<Value>(cursor) else { return };
            let Some((_, id)) = session::cursor(&filters, &page_token::encode(&filters, &cursor)) else { return };
            is_spelt_so(id, cursor[1].as_str().expect("an id is text"));
        }
        _ => {}
    }
}

/// Page tokens: as they come, and as whoever has the digest of a listing may forge them.
pub fn page_tokens(data: &[u8]) {
    let filters = pb::ListEventsRequest::default();
    let read = |token: &str| {
        let _ = page_token::decode::<i64>(&filters, token);
        let _ = page_token::decode::<(EventId, String)>(&filters, token);
        let Some((time, id)) = page_token::decode::<(Option<Timestamp>, EventId)>(&filters, token) else { return };
        assert_eq!(EventId::parse(id.as_str()), Some(id.clone()));
        assert!(time.is_none_or(|time| Timestamp::from_micros(time.micros()) == Some(time)));
    };
    if let Ok(token) = std::str::from_utf8(data) {
        read(token);
        let _ = waitlist::cursor(&pb::ListWaitlistRequest::default(), token);
        let _ = reservation::search_cursor(&pb::SearchReservationsRequest::default(), token);
    }
    if let Ok(cursor) = serde_json::from_slice::<Value>(data) {
        read(&page_token::encode(&filters, &cursor));
    }
}

/// Files of events: lines have their numbers, and those that are good, what they need.
pub fn csv(data: &[u8]) {
    let Ok(text) = event_file::decode(data) else { return };
    let Ok(rows) = event_file::Rows::of(&text) else { return };
    let mut next = 2;
    for row in rows {
        assert!(row.line >= next, "line {} after line {}", row.line, next - 1);
        next = row.line + 1;
        match row.event {
            Ok(event) => assert!(!event.event_id.is_empty()),
            Err(problem) => {
                assert!(!problem.messages.is_empty());
                next = row.line + problem.unread.max(1);
            }
        }
    }
}
