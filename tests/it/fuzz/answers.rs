//! The rules of a proper answer.

use tonic::Code;
use tonic_types::StatusExt;

use super::calls::{Answer, Call};

/// Words that only PostgreSQL, its client library, or a defect would use.
const FORBIDDEN: [&str; 19] = [
    "select ",
    "insert ",
    "constraint",
    "sqlstate",
    "relation",
    "syntax",
    "column",
    "sqlx",
    "postgres",
    "pgdatabase",
    "duplicate key",
    "violates",
    "transaction",
    "deadlock",
    "panicked",
    "unwrap",
    "_pkey",
    "_check",
    "src/",
];

/// The code of a proper answer, or what is wrong with it.
pub fn check(call: &Call, answer: &Answer) -> Result<String, String> {
    if let Some(broken) = &answer.broken {
        return Err(format!("no answer: {broken}"));
    }
    if answer.http >= 500 || (answer.http != 200 && call.is_grpc) {
        return Err(format!("HTTP {}", answer.http));
    }
    let Some(status) = answer.status() else {
        return if call.is_grpc { Err("no status".into()) } else { Ok(format!("HTTP_{}", answer.http)) };
    };
    let code = status.code();
    let is_ours = match code {
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable => true,
        Code::DeadlineExceeded => !call.has_timeout,
        _ => false,
    };
    if is_ours {
        return Err(format!("{code:?}: {}", status.message()));
    }
    if code != Code::Ok {
        let Some(info) = status.get_details_error_info() else { return Err(format!("no ErrorInfo: {status:?}")) };
        if info.domain != "reservd" || info.reason.is_empty() {
            return Err(format!("not our ErrorInfo: {info:?}"));
        }
        let violations = status.get_details_bad_request().map_or(0, |bad| bad.field_violations.len());
        // Of bytes that are no message no field can be named; and reflection is not ours.
        let has_fields = info.reason != "MESSAGE_MALFORMED" && call.method.full_name().starts_with("reservd.");
        if code == Code::InvalidArgument && violations == 0 && has_fields {
            return Err(format!("no field is named: {status:?}"));
        }
        let output = format!("{} {:?}", status.message(), status.get_error_details()).to_lowercase();
        if let Some(word) = FORBIDDEN.iter().find(|word| output.contains(*word)) {
            return Err(format!("{word:?} in the answer: {output}"));
        }
    }
    Ok(name(code))
}

/// A code's name as the specification writes it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
