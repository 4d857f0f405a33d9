//! The two encodings of a message: protobuf, and protobuf's canonical JSON (lowerCamelCase names, 64-bit numbers as
//! strings, RFC 3339 times), which is derived from the same descriptors as the code.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::{config::PayloadFormat, rpc::pb};

/// `content_type` of JSON.
pub const JSON: &str = "application/json";
/// `content_type` of protobuf.
pub const PROTOBUF: &str = "application/protobuf";

/// The descriptors of reservd's messages and of the error details. They are compiled in, so a test finds a broken
/// one.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("descriptors of reservd");
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("the descriptors of error details");
    pool
});

impl PayloadFormat {
    /// The format of a `content_type`; parameters such as a charset are ignored.
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

    /// Encodes a message with this full name.
    pub fn write(self, name: &str, message: &impl Message) -> Vec<u8> {
        match self {
            Self::Protobuf => message.encode_to_vec(),
            Self::Json => to_json(name, message).expect("every message has a descriptor"),
        }
    }

    /// Decodes a message with this full name, or explains the failure. An unknown field is an error in JSON: it is
    /// misspelt more often than newer.
    pub fn read<M: Message + Default>(self, name: &str, body: &[u8]) -> Result<M, String> {
        match self {
            Self::Protobuf => M::decode(body).map_err(|error| error.to_string()),
            Self::Json => from_json(name, body).map_err(|error| error.to_string()),
        }
    }
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is not a message of reservd"))
}

fn to_json(name: &str, message: &impl Message) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let dynamic = DynamicMessage::decode(descriptor(name), message.encode_to_vec().as_slice())?;
    let mut json = serde_json::Serializer::new(Vec::new());
    dynamic.serialize_with_options(&mut json, &SerializeOptions::new())?;
    Ok(json.into_inner())
}

fn from_json<M: Message + Default>(name: &str, body: &[u8]) -> Result<M, Box<dyn std::error::Error>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor(name), &mut json, &DeserializeOptions::new())?;
    json.end()?;
    Ok(dynamic.transcode_to()?)
}

#[cfg(test)]
mod tests;
