//! What `error_reason.proto` says of each error reason, read from its descriptors.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;
use reservd::rpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The parts of a `google.protobuf.FileDescriptorSet` that matter here, with our extension of the options of values.
#[derive(Message)]
struct Files {
    #[prost(message, repeated, tag = 1)]
    files: Vec<File>,
}

#[derive(Message)]
struct File {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(message, repeated, tag = 5)]
    enums: Vec<Enum>,
    #[prost(message, optional, tag = 9)]
    source: Option<Source>,
}

#[derive(Message)]
struct Enum {
    #[prost(message, repeated, tag = 2)]
    values: Vec<Value>,
}

#[derive(Message)]
struct Value {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(message, optional, tag = 3)]
    options: Option<Options>,
}

#[derive(Message)]
struct Options {
    #[prost(message, optional, tag = 50700)]
    error_reason: Option<pb::ErrorReasonInfo>,
}

#[derive(Message)]
struct Source {
    #[prost(message, repeated, tag = 1)]
    locations: Vec<Location>,
}

#[derive(Message)]
struct Location {
    #[prost(int32, repeated, tag = 1)]
    path: Vec<i32>,
    #[prost(string, optional, tag = 3)]
    comment: Option<String>,
    #[prost(string, repeated, tag = 6)]
    detached: Vec<String>,
}

/// A reason, as the API describes it.
#[derive(Debug)]
pub struct Described {
    pub name: String,
    /// Begins a group of reasons: what they have in common.
    pub group: Option<String>,
    pub comment: String,
    pub info: pb::ErrorReasonInfo,
}

/// Every reason in order.
pub static REASONS: LazyLock<Vec<Described>> = LazyLock::new(|| {
    let files = Files::decode(pb::DESCRIPTORS).expect("descriptors").files;
    let file = files.into_iter().find(|file| file.name == "reservd/v1/error_reason.proto").expect("it is there");
    let locations = file.source.expect("comments are kept").locations;
    let described = |(place, value): (usize, &Value)| {
        // The first enum (5) of the file, and in it the value (2) at this place.
        let path = [5, 0, 2, i32::try_from(place).expect("few")];
        let location = locations.iter().find(|location| location.path == path).expect("every value has a comment");
        let text = |comment: &str| comment.split_whitespace().collect::<Vec<_>>().join(" ");
        Described {
            name: value.name.clone(),
            group: location.detached.last().map(|comment| text(comment)),
            comment: text(location.comment.as_deref().unwrap_or_default()),
            info: value.options.as_ref().and_then(|options| options.error_reason.clone()).expect("it is described"),
        }
    };
    file.enums[0].values.iter().enumerate().skip(1).map(described).collect()
});

/// What the status of any call about one event may have in its metadata.
pub const COMMON: [&str; 3] = ["event_id", "reservation_id", "entry_id"];

/// Asserts that a status is as the API describes its reason: code, metadata, and RetryInfo exactly where repeating the
/// identical call may help.
#[track_caller]
pub fn assert_as_described(status: &Status) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    let described = REASONS.iter().find(|described| described.name == info.reason);
    let described = described.unwrap_or_else(|| panic!("no such reason: {status:?}"));
    assert_eq!(name_of(status.code()), described.info.code, "the code of {status:?}");
    assert_eq!(status.get_details_retry_info().is_some(), described.info.retriable, "RetryInfo of {status:?}");
    let is_known = |key: &String| described.info.metadata.contains(key) || COMMON.contains(&key.as_str());
    let unknown: BTreeMap<_, _> = info.metadata.iter().filter(|(key, _)| !is_known(key)).collect();
    assert!(unknown.is_empty(), "metadata that the API does not describe: {unknown:?} of {status:?}");
}

fn name_of(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}
