//! The two ways to write a message: protobuf's bytes, and its canonical JSON (lowerCamelCase names, 64-bit
//! numbers as strings, RFC 3339 times), which comes from the same descriptors as the code.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::{config::PayloadFormat, rpc::pb};

/// `content_type` of JSON.
pub const JSON: &str = "application/json";
/// `content_type` of protobuf.
pub const PROTOBUF: &str = "application/protobuf";

/// The descriptors of our messages and of the error details. They are compiled in, and every test that
/// writes JSON reads them.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("our own descriptors");
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("the descriptors of error details");
    pool
});

impl PayloadFormat {
    /// What a `content_type` stands for; parameters such as a charset are ignored.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            JSON => Some(Self::Json),
            PROTOBUF | "application/x-protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }

    /// Its `content_type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Protobuf => PROTOBUF,
        }
    }

    /// Writes `message`, whose full name is `name`.
    pub fn write(self, name: &str, message: &impl Message) -> Vec<u8> {
        match self {
            Self::Protobuf => message.encode_to_vec(),
            Self::Json => to_json(name, message).expect("a message of ours has a descriptor and can be written"),
        }
    }

    /// Reads a message whose full name is `name`, or says what keeps it from being read. A field that is
    /// not known is an error in JSON: it is a misspelt one more often than a newer one.
    pub fn read<M: Message + Default>(self, name: &str, body: &[u8]) -> Result<M, String> {
        match self {
            Self::Protobuf => M::decode(body).map_err(|error| error.to_string()),
            Self::Json => of_json(name, body).map_err(|error| error.to_string()),
        }
    }
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is no message of ours"))
}

fn to_json(name: &str, message: &impl Message) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let dynamic = DynamicMessage::decode(descriptor(name), message.encode_to_vec().as_slice())?;
    let mut json = serde_json::Serializer::new(Vec::new());
    dynamic.serialize_with_options(&mut json, &SerializeOptions::new())?;
    Ok(json.into_inner())
}

fn of_json<M: Message + Default>(name: &str, body: &[u8]) -> Result<M, Box<dyn std::error::Error>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor(name), &mut json, &DeserializeOptions::new())?;
    json.end()?;
    Ok(dynamic.transcode_to()?)
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn json_is_protobufs_own() {
        let request = pb::ReserveRequest {
            event_id: "show".into(),
            user_id: "ann".into(),
            quantity: 2,
            hold_ttl: Some(prost_types::Duration { seconds: 90, nanos: 500_000_000 }),
            ..Default::default()
        };
        let json = PayloadFormat::Json.write("reservd.v1.ReserveRequest", &request);
        let text = String::from_utf8(json.clone()).expect("text");
        assert_eq!(text, r#"{"eventId":"show","userId":"ann","quantity":2,"holdTtl":"90.500s"}"#);
        for body in [json.as_slice(), br#"{"event_id": "show", "user_id": "ann", "quantity": 2, "hold_ttl": "90.5s"}"#]
        {
            let read: pb::ReserveRequest =
                PayloadFormat::Json.read("reservd.v1.ReserveRequest", body).expect("readable");
            assert_eq!(read, request);
        }
    }

    #[test]
    fn what_is_not_known_or_not_json_can_not_be_read() {
        for body in [r#"{"event": "show"}"#, r#"{"eventId": 7}"#, "{", "[]", r#"{} {}"#, ""] {
            let read = PayloadFormat::Json.read::<pb::ReserveRequest>("reservd.v1.ReserveRequest", body.as_bytes());
            read.expect_err(body);
        }
    }

    #[test]
    fn a_status_has_its_details_in_json() {
        let mut details = ErrorDetails::new();
        details.set_error_info("SOLD_OUT", "reservd", [("asked".to_owned(), "2".to_owned())]);
        details.set_retry_info(Some(std::time::Duration::from_secs(1)));
        let status = tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "no", details);
        let status = tonic_types::pb::Status::decode(status.details()).expect("a status");
        let json = PayloadFormat::Json.write("google.rpc.Status", &status);
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(value["code"], 9);
        let found = value["details"].as_array().expect("details");
        assert!(found.iter().any(|one| one["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
            && one["reason"] == "SOLD_OUT"
            && one["metadata"]["asked"] == "2"));
    }
}
