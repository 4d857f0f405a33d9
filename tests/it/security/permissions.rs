//! The RPCs of each role: everything else is denied, and no RPC is missing.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use reservd::{
    auth::permissions::{Need, TABLE},
    config::Role,
    rpc::pb,
};
use tonic::Code;

use crate::support::{Guarded, assert_refused, raw_call};

/// The paths of all methods of the server.
fn methods() -> BTreeSet<String> {
    let sets = [
        pb::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(set).expect("descriptors").file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    paths
}

#[test]
fn the_table_matches_the_rpcs() {
    let rows: BTreeSet<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(rows, methods());
}

/// The RPCs of each role, repeated here since a mistake in the table is a breach.
fn opened_by(role: Role) -> Vec<&'static str> {
    let public = ["GetEvent", "ListEvents", "GetAvailability", "BatchGetAvailability"];
    let manage = [
        "CreateEvent",
        "BatchCreateEvents",
        "UpdateEvent",
        "OpenEvent",
        "CloseEvent",
        "CancelEvent",
        "DeleteEvent",
        "PromoteWaitlistEntry",
    ];
    let inspect = ["VerifyEvent", "ListEventCounts", "GetContentionReport"];
    let reserve =
        ["Reserve", "Confirm", "Cancel", "Extend", "Amend", "JoinWaitlist", "LeaveWaitlist", "AmendWaitlistEntry"];
    let see = ["GetReservation", "ListReservations", "ListChanges", "GetWaitlistEntry", "ListWaitlist"];
    let see_all = ["WatchChanges", "SearchReservations"];
    let anyone = ["GetCurrentSession", "RevokeCurrentSession", "GetCaller"];
    let sessions = ["GetSession", "ListSessions", "RevokeSession", "RevokeUserSessions"];
    let groups: &[&[&'static str]] = match role {
        Role::Admin => &[
            &public,
            &manage,
            &inspect,
            &reserve,
            &see,
            &see_all,
            &anyone,
            &sessions,
            &["CreateSession", "RunConcurrencyTest"],
        ],
        Role::EventManager => &[&public, &manage, &inspect, &anyone],
        Role::Service => &[&public, &inspect, &reserve, &see, &see_all, &anyone, &sessions, &["CreateSession"]],
        Role::User => &[&public, &reserve, &see, &anyone, &sessions],
        Role::BoxOffice => &[&public, &manage, &inspect, &reserve, &see, &see_all, &anyone],
        Role::Reader => &[&public, &inspect, &see, &see_all, &anyone],
    };
    groups.concat()
}

#[tokio::test]
async fn each_role_may_call_its_rpcs_and_no_others() {
    let guarded = Guarded::start().await;
    let ours = methods().into_iter().filter(|path| path.starts_with("/reservd.")).collect::<Vec<_>>();
    for role in Role::ALL {
        let client = guarded.caller("ann", &[role.name()]);
        for path in &ours {
            let name = path.rsplit_once('/').expect("a path").1;
            let answer = client.raw(path, vec![]).await;
            let is_denied = answer.is_err_and(|status| status.code() == Code::PermissionDenied);
            assert_eq!(!is_denied, opened_by(role).contains(&name), "{} and {name}", role.name());
        }
    }
    let without_role = guarded.caller("ann", &["baker"]);
    let by_role = ours.iter().filter(|path| TABLE.iter().any(|row| row.0 == **path && row.1 != Need::Identity));
    for path in by_role {
        let status = assert_refused(without_role.raw(path, vec![]).await, Code::PermissionDenied, "ROLE_MISSING");
        assert!(status.message().starts_with("one of these roles is needed: admin"), "{status}");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn without_credentials_only_health_checks_are_allowed() {
    let guarded = Guarded::start().await;
    let unknown = ["/reservd.v1.EventService/DropEvents", "/evil.v1.Service/Method"].map(str::to_owned);
    for path in methods().into_iter().chain(unknown) {
        let need = TABLE.iter().find(|(known, _)| *known == path).map(|(_, need)| *need);
        let leaked: &'static str = path.leak();
        let answer = raw_call(guarded.server.channel(), leaked, vec![]);
        if need == Some(Need::Nothing) {
            // A watch does not end; its start is enough.
            let begun = tokio::time::timeout(std::time::Duration::from_millis(300), answer).await;
            assert!(begun.is_err() || begun.is_ok_and(|answer| answer.is_ok()), "{leaked}");
        } else {
            assert_refused(answer.await, Code::Unauthenticated, "CREDENTIALS_MISSING");
        }
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_unknown_to_an_admin_too() {
    let guarded = Guarded::start().await;
    let admin = guarded.caller("root", &["admin"]);
    let answer = admin.raw("/reservd.v1.EventService/DropEvents", vec![]).await;
    assert_refused(answer, Code::Unimplemented, "METHOD_UNKNOWN");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn reflection_needs_authentication_and_can_be_turned_off() {
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let guarded = Guarded::start().await;
    let answer = guarded.caller("ann", &[]).raw(path, vec![]).await;
    // An empty message is not a valid request, but the call is admitted.
    assert_eq!(answer.expect_err("no question").code(), Code::InvalidArgument);
    guarded.check_and_stop().await;

    let guarded = Guarded::with(&[("server.reflection", "false")]).await;
    let answer = guarded.caller("root", &["admin"]).raw(path, vec![]).await;
    assert_refused(answer, Code::Unimplemented, "METHOD_UNKNOWN");
    guarded.check_and_stop().await;
}
