//! The table against the descriptors of all services.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Label, field_descriptor_proto::Type};

use super::*;
use crate::{
    auth::permissions::{self, Need},
    rpc::{methods, pb, server::DESCRIPTORS},
};

fn costs() -> HashMap<&'static str, Cost> {
    TABLE.iter().copied().collect()
}

/// The messages of the API, by their full names.
fn messages() -> BTreeMap<String, DescriptorProto> {
    let files = FileDescriptorSet::decode(pb::DESCRIPTORS).expect("descriptors").file;
    let named = |package: String, it: DescriptorProto| (format!(".{package}.{}", it.name()), it);
    files
        .into_iter()
        .flat_map(|file| file.message_type.clone().into_iter().map(move |it| named(file.package().to_owned(), it)))
        .collect()
}

#[test]
fn each_rpc_has_one_cost() {
    let rows: BTreeSet<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len());
    assert_eq!(rows, methods::paths(&DESCRIPTORS, |_| true).into_iter().collect());
}

#[test]
fn streams_are_those_of_the_descriptors() {
    for (path, method) in methods::all(&DESCRIPTORS) {
        let is_stream = method.client_streaming() || method.server_streaming();
        assert_eq!(costs()[path.as_str()] == Stream, is_stream, "{path}");
    }
}

#[test]
fn a_response_of_any_number_of_messages_is_bounded() {
    let messages = messages();
    let is_many = |name: &str| {
        let fields = messages.get(name).map_or(&[][..], |message| &message.field);
        fields.iter().any(|field| field.label() == Label::Repeated && field.r#type() == Type::Message)
    };
    for (path, method) in methods::all(&[pb::DESCRIPTORS]) {
        // A mutation of many answers with as many as it was called with.
        if is_many(method.output_type()) && !is_many(method.input_type()) {
            assert!([Large, Costly, Stream].contains(&costs()[path.as_str()]), "{path}");
        }
    }
}

#[test]
fn what_can_be_rehearsed_is_a_mutation() {
    let messages = messages();
    for (path, method) in methods::all(&[pb::DESCRIPTORS]) {
        let changes = messages[method.input_type()].field.iter().any(|field| field.name() == "validate_only");
        assert_eq!(costs()[path.as_str()] == Mutation, changes, "{path}");
    }
}

/// Or else one caller would be given what another may see.
#[test]
fn a_shared_answer_does_not_depend_on_who_calls() {
    let needs = permissions::by_path();
    for path in paths_of(Costly) {
        assert!(matches!(needs[path.as_str()], Need::Role { own: false, .. }), "{path}");
    }
}
