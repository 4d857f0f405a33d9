//! Messages in protobuf's canonical JSON (lowerCamelCase names, 64-bit numbers as strings, RFC 3339 times), which is
//! derived from the same descriptors as the code.

use std::{error::Error, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use super::pb;

/// The descriptors of reservd's messages and of the error details. They are compiled in, so a test finds a broken
/// one.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("descriptors of reservd");
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("the descriptors of error details");
    pool
});

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is not a message of reservd"))
}

fn dynamic(name: &str, message: &impl Message) -> DynamicMessage {
    let decoded = DynamicMessage::decode(descriptor(name), message.encode_to_vec().as_slice());
    decoded.expect("every message has a descriptor")
}

/// Encodes a message with this full name, without the fields that have their default value.
pub fn encode(name: &str, message: &impl Message) -> Vec<u8> {
    let mut json = serde_json::Serializer::new(Vec::new());
    let written = dynamic(name, message).serialize_with_options(&mut json, &SerializeOptions::new());
    written.expect("every message has a JSON form");
    json.into_inner()
}

/// The JSON value of a message with this full name. It has every field but those that are unset, so that a script finds
/// a 0 where one is.
pub fn value(name: &str, message: &impl Message) -> Value {
    let options = SerializeOptions::new().skip_default_fields(false);
    let value = dynamic(name, message).serialize_with_options(serde_json::value::Serializer, &options);
    value.expect("every message has a JSON form")
}

/// Decodes a message with this full name. An unknown field is an error: it is misspelt more often than newer.
pub fn decode<M: Message + Default>(name: &str, json: &[u8]) -> Result<M, Box<dyn Error>> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor(name), &mut json, &DeserializeOptions::new())?;
    json.end()?;
    Ok(dynamic.transcode_to()?)
}
