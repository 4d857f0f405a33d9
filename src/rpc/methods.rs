//! The methods of services, read from their descriptors.

use std::collections::HashSet;

use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// The methods in encoded sets of descriptors, each with its path.
pub fn all(encoded: &[&[u8]]) -> Vec<(String, MethodDescriptorProto)> {
    let mut all = Vec::new();
    for file in encoded.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap_or_default().file) {
        for service in &file.service {
            let path =
                |method: &MethodDescriptorProto| format!("/{}.{}/{}", file.package(), service.name(), method.name());
            all.extend(service.method.iter().map(|method| (path(method), method.clone())));
        }
    }
    all
}

/// The paths of those methods that are `wanted`.
pub fn paths(encoded: &[&[u8]], wanted: impl Fn(&MethodDescriptorProto) -> bool) -> HashSet<String> {
    all(encoded).into_iter().filter(|(_, method)| wanted(method)).map(|(path, _)| path).collect()
}
