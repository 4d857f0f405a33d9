//! A session reaches no session with more roles than its own: it neither sees, revokes nor replaces it.

use reservd::rpc::pb::{self, Role};
use tonic::Code;

use super::{ask, guarded, guarded_with, list, open, revoke, wish};
use crate::support::{Client, all, assert_refused, bad_fields, eventually, metadata, millis};

/// Opens a session of a user as a service; returns the ids of the sessions that it replaces with its token.
async fn open_by(service: &Client, user_id: &str) -> (String, Vec<String>) {
    let opened = service.sessions().create_session(wish(user_id, &[])).await.expect("a user").into_inner();
    (opened.token, opened.revoked_session_ids)
}

#[tokio::test]
async fn a_session_does_not_reach_its_users_sessions_with_more_roles() {
    let (guarded, _redis) = guarded().await;
    let admin = open(&guarded, wish("boss", &[Role::Admin])).await;
    let both = open(&guarded, wish("boss", &[Role::User, Role::Admin])).await;
    let reader = open(&guarded, wish("boss", &[Role::User, Role::Reader])).await;
    let stolen = guarded.with_token(&open_by(&guarded.service("shop"), "boss").await.0);
    let more = guarded.with_token(&reader.0);
    assert_eq!(list(&stolen, "").await.len(), 1, "its own");
    assert_eq!(list(&more, "").await.len(), 2, "those of a user, too");
    for (_, session) in [&admin, &both] {
        for client in [&stolen, &more] {
            let get = pb::GetSessionRequest { session_id: session.session_id.clone() };
            assert_refused(client.sessions().get_session(get).await, Code::NotFound, "SESSION_NOT_FOUND");
            assert_refused(revoke(client, session).await, Code::NotFound, "SESSION_NOT_FOUND");
        }
    }
    let all = pb::RevokeUserSessionsRequest::default();
    assert_eq!(
        stolen.sessions().revoke_user_sessions(all.clone()).await.expect("its own").into_inner().revoked_session_count,
        1
    );
    assert_eq!(more.sessions().revoke_user_sessions(all).await.expect("its own").into_inner().revoked_session_count, 1);
    for (token, _) in [&admin, &both] {
        ask(&guarded.with_token(token)).await.expect("an admin's session is out of reach");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn an_admin_revokes_what_a_principal_created() {
    let (guarded, redis) = guarded().await;
    let (shop, desk) = (guarded.service("shop"), guarded.service("desk"));
    let users: Vec<_> = (0..1001).map(|number| format!("user-{number}")).collect();
    let opened = all(users.iter().map(|user_id| open_by(&shop, user_id))).await;
    let (stolen, other) = (guarded.with_token(&opened[0].0), guarded.with_token(&open_by(&desk, "ann").await.0));
    for client in [&stolen, &other] {
        ask(client).await.expect("good");
    }
    let by = |principal: &str| pb::RevokeUserSessionsRequest { created_by: principal.into(), ..Default::default() };
    for client in [&shop, &stolen] {
        let refused = client.sessions().revoke_user_sessions(by("token:shop")).await;
        assert_eq!(metadata(&assert_refused(refused, Code::PermissionDenied, "ROLE_MISSING"))["roles"], "admin");
    }
    let admin = guarded.caller("root", &["admin"]);
    let both = pb::RevokeUserSessionsRequest { user_id: "ann".into(), ..by("token:shop") };
    let refused =
        assert_refused(admin.sessions().revoke_user_sessions(both).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&refused), ["created_by"]);
    let revoked =
        admin.sessions().revoke_user_sessions(by("token:shop")).await.expect("done").into_inner().revoked_session_count;
    assert_eq!(revoked, 1001);
    eventually("it ends", async || ask(&stolen).await.is_err()).await;
    ask(&other).await.expect("another's are good");
    assert_eq!(redis.dump().await.len(), 3, "one session, and its two lists");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_session_replaces_only_sessions_with_the_same_roles() {
    let (guarded, _redis) = guarded_with(&[("sessions.max_per_user", "3")]).await;
    let shop = guarded.service("shop");
    // It expires before all sessions of the service.
    let soon = |roles: &[Role]| pb::CreateSessionRequest { lifetime: millis(600_000), ..wish("root", roles) };
    let roots = guarded.with_token(&open(&guarded, soon(&[Role::Admin])).await.0);
    let mut replaced = 0;
    for _ in 0..5 {
        replaced += open_by(&shop, "root").await.1.len();
    }
    ask(&roots).await.expect("the service has not replaced it");
    assert_eq!(replaced, 2, "the service's own");
    let session = roots.sessions().get_current_session(pb::GetCurrentSessionRequest {}).await.expect("it is there");
    let session = session.into_inner().session.expect("it is in the answer");
    // Nor has it used up the room for the next session of an admin.
    let more = guarded.caller("root", &["admin"]).sessions().create_session(wish("root", &[Role::Admin])).await;
    assert_eq!(more.expect("there is room").into_inner().revoked_session_ids, Vec::<String>::new());
    assert_eq!(list(&roots, "root").await.len(), 5);
    revoke(&roots, &session).await.expect("it is there");
    guarded.check_and_stop().await;
}
