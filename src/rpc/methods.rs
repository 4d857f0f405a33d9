//! The methods of services, read from their descriptors.

use std::collections::HashSet;

use prost::Message;
use prost_types::{
    FileDescriptorSet, MethodDescriptorProto, field_descriptor_proto::Label, field_descriptor_proto::Type,
};

/// The methods that read so much that a few at once would keep the database from everybody else.
pub const COSTLY: [&str; 3] = [
    "/reservd.v1.EventService/ListEventCounts",
    "/reservd.v1.EventService/VerifyEvent",
    "/reservd.v1.ReservationService/SearchReservations",
];

/// The paths of the methods in encoded sets of descriptors that are `wanted`.
pub fn paths(encoded: &[&[u8]], wanted: impl Fn(&MethodDescriptorProto) -> bool) -> HashSet<String> {
    let mut paths = HashSet::new();
    for file in encoded.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap_or_default().file) {
        for service in &file.service {
            let methods = service.method.iter().filter(|method| wanted(method));
            paths.extend(methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
        }
    }
    paths
}

/// The paths of the methods that answer with any number of messages at once. Those that are also called with any
/// number are not among them: their answer is about as long as the call, and they may have to wait for locks.
pub fn with_large_responses(encoded: &[u8]) -> HashSet<String> {
    let mut large = HashSet::new();
    for file in FileDescriptorSet::decode(encoded).unwrap_or_default().file {
        for message in &file.message_type {
            if message.field.iter().any(|field| field.label() == Label::Repeated && field.r#type() == Type::Message) {
                large.insert(format!(".{}.{}", file.package(), message.name()));
            }
        }
    }
    paths(&[encoded], |method| {
        !method.server_streaming() && large.contains(method.output_type()) && !large.contains(method.input_type())
    })
}

#[cfg(test)]
mod tests;
