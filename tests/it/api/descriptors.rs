//! What every message and RPC of the API has in common.

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use reservd::rpc::pb;

fn files() -> Vec<FileDescriptorProto> {
    let all = FileDescriptorSet::decode(pb::DESCRIPTORS).expect("descriptors").file;
    all.into_iter().filter(|file| file.package().starts_with("reservd.")).collect()
}

/// The requests and responses of the RPCs that change something in the ledger.
fn mutations() -> Vec<(DescriptorProto, DescriptorProto)> {
    let names = [
        "Reserve",
        "Confirm",
        "Cancel",
        "Extend",
        "Amend",
        "JoinWaitlist",
        "LeaveWaitlist",
        "AmendWaitlistEntry",
        "PromoteWaitlistEntry",
        "CreateEvent",
        "UpdateEvent",
        "OpenEvent",
        "CloseEvent",
        "CancelEvent",
        "DeleteEvent",
    ];
    let messages: Vec<_> = files().into_iter().flat_map(|file| file.message_type).collect();
    let find = |name: String| messages.iter().find(|it| it.name() == name).expect("it is there").clone();
    names.iter().map(|name| (find(format!("{name}Request")), find(format!("{name}Response")))).collect()
}

#[test]
fn every_mutation_has_its_frame_at_numbers_20_to_23() {
    let numbers = [("etag", 20), ("request_id", 21), ("validate_only", 22), ("options", 23)];
    for (request, _) in mutations() {
        for field in &request.field {
            let expected = numbers.iter().find(|(name, _)| *name == field.name());
            match expected {
                Some((_, number)) => assert_eq!(field.number(), *number, "{}.{}", request.name(), field.name()),
                None => assert!(field.number() < 20, "{}.{} is of the domain", request.name(), field.name()),
            }
        }
        for name in ["request_id", "validate_only", "options"] {
            assert!(request.field.iter().any(|field| field.name() == name), "{} lacks {name}", request.name());
        }
    }
}

#[test]
fn every_mutation_answers_with_its_resource_and_how_it_was_executed() {
    for (_, response) in mutations() {
        let fields: Vec<_> = response.field.iter().map(|field| (field.number(), field.type_name())).collect();
        let resources = [".reservd.v1.Reservation", ".reservd.v1.WaitlistEntry", ".reservd.v1.Event"];
        assert!(fields.iter().any(|(number, name)| *number == 1 && resources.contains(name)), "{}", response.name());
        assert!(fields.contains(&(2, ".reservd.v1.ExecutionReport")), "{}", response.name());
    }
}

#[test]
fn every_file_has_the_options_that_generators_need() {
    for file in files() {
        let options = file.options.clone().unwrap_or_default();
        let version = file.package().rsplit('.').next().unwrap_or_default();
        assert!(options.go_package().contains(version) && options.go_package().contains(';'), "{}", file.name());
        assert!(options.java_package().ends_with(version) && options.java_multiple_files(), "{}", file.name());
        assert!(options.csharp_namespace().starts_with("Reservd."), "{}", file.name());
    }
}

#[test]
fn what_a_service_may_change_is_apart_from_what_is_frozen() {
    for file in files() {
        let is_diagnostics = file.service.iter().any(|service| service.name() == "DiagnosticsService");
        assert_eq!(file.package() == "reservd.diagnostics.v1alpha1", is_diagnostics, "{}", file.name());
    }
}

#[test]
fn no_quantity_has_a_zero_that_means_something() {
    let optional = ["ConfirmRequest", "CancelRequest", "AmendRequest", "AmendWaitlistEntryRequest"];
    for message in files().into_iter().flat_map(|file| file.message_type) {
        for field in message.field.iter().filter(|field| field.name().ends_with("quantity")) {
            let may_be_unset = optional.contains(&message.name()) || field.name() == "max_quantity";
            let may_be_unset =
                may_be_unset || (message.name(), field.name()) == ("JoinWaitlistRequest", "min_quantity");
            assert_eq!(field.proto3_optional(), may_be_unset, "{}.{}", message.name(), field.name());
        }
    }
}
