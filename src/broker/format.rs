//! The two encodings of a message: protobuf, and protobuf's canonical JSON.

use prost::Message;

use crate::{config::PayloadFormat, rpc::json};

/// `content_type` of JSON.
pub const JSON: &str = "application/json";
/// `content_type` of protobuf.
pub const PROTOBUF: &str = "application/protobuf";

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
            Self::Json => json::encode(name, message),
        }
    }

    /// Decodes a message with this full name, or explains the failure.
    pub fn read<M: Message + Default>(self, name: &str, body: &[u8]) -> Result<M, String> {
        match self {
            Self::Protobuf => M::decode(body).map_err(|error| error.to_string()),
            Self::Json => json::decode(name, body).map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
