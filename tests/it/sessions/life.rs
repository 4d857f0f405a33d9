//! The life of a session: opened, used, ended.

use redis::AsyncCommands;
use reservd::rpc::pb::{self, Role, SessionKind};
use tonic::Code;

use super::{ask, guarded, guarded_with, list, open, revoke, wish};
use crate::support::{assert_refused, eventually, metadata, millis, reserve};

#[tokio::test]
async fn a_session_has_the_access_of_its_user_and_roles() {
    let (guarded, _redis) = guarded().await;
    guarded.event("concert", 5).await;
    let (token, session) =
        open(&guarded, pb::CreateSessionRequest { description: "her phone".into(), ..wish("ann", &[]) }).await;
    assert!(token.starts_with("rs_") && token.len() == 46, "{token}");
    assert_eq!((session.user_id.as_str(), session.roles().collect::<Vec<_>>()), ("ann", vec![Role::User]));
    assert_eq!((session.created_by.as_str(), session.description.as_str()), ("token:root", "her phone"));
    let ann = guarded.with_token(&token);
    let held = ann.reservations().reserve(reserve("concert", "ann")).await.expect("for herself").into_inner();
    assert_eq!(held.reservation.expect("it is in the answer").user_id, "ann");
    let denied = ann.reservations().reserve(reserve("concert", "bob")).await;
    assert_refused(denied, Code::PermissionDenied, "USER_MISMATCH");
    let request = pb::ListChangesRequest { event_id: "concert".into(), ..Default::default() };
    let changes = ann.feed().list_changes(request).await.expect("her history").into_inner().changes;
    assert_eq!(changes[0].actor, "session:ann");

    let me = ann.sessions().get_current_session(pb::GetCurrentSessionRequest {}).await.expect("who am I").into_inner();
    let me = me.session.expect("it is in the answer");
    assert!(me.current && me.session_id == session.session_id);
    let reader = open(&guarded, wish("eye", &[Role::Reader])).await.0;
    ask(&guarded.with_token(&reader)).await.expect("a reader");
    let event = pb::Event { event_id: "gig".into(), capacity: 1, ..Default::default() };
    let made = guarded.with_token(&reader).events();
    let made = { made }.create_event(pb::CreateEventRequest { event: Some(event), ..Default::default() }).await;
    assert_refused(made, Code::PermissionDenied, "ROLE_MISSING");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn only_the_hash_of_a_token_is_stored_and_every_key_expires() {
    let (guarded, redis) = guarded().await;
    let mut tokens = Vec::new();
    for user_id in ["ann", "bob"] {
        tokens.push(open(&guarded, wish(user_id, &[])).await.0);
        ask(&guarded.with_token(&tokens[tokens.len() - 1])).await.expect("it is used");
    }
    let kept = redis.dump().await;
    assert_eq!(kept.len(), 5, "two sessions, two users' lists of them, and their creator's: {kept:?}");
    for token in tokens {
        let secret = token.trim_start_matches("rs_");
        assert!(kept.iter().all(|line| !line.contains(secret)), "{token} is kept: {kept:?}");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_sliding_session_lasts_while_it_is_used_and_a_fixed_one_does_not() {
    let (guarded, redis) = guarded_with(&[("sessions.refresh_interval", "100ms")]).await;
    let short = |user_id: &str, kind: SessionKind| pb::CreateSessionRequest {
        kind: kind.into(),
        lifetime: millis(2000),
        ..wish(user_id, &[])
    };
    let (sliding, its) = open(&guarded, short("ann", SessionKind::Sliding)).await;
    let (fixed, other) = open(&guarded, short("bob", SessionKind::Fixed)).await;
    assert!(its.end_time.map(|t| t.seconds) > its.expire_time.map(|t| t.seconds + 3600));
    assert_eq!(other.end_time, other.expire_time);
    let (sliding, fixed) = (guarded.with_token(&sliding), guarded.with_token(&fixed));
    // Longer than the lifetime of the fixed session; the sliding one was used all the time.
    let mut connection = redis.connect().await;
    let key = format!("{}session:{}", redis.prefix, other.session_id);
    eventually("the fixed one lapses by Redis's clock", async || {
        ask(&sliding).await.expect("it is used");
        let _ = ask(&fixed).await;
        !connection.exists::<_, bool>(&key).await.expect("asked")
    })
    .await;
    assert_refused(ask(&fixed).await, Code::Unauthenticated, "SESSION_ENDED");
    ask(&sliding).await.expect("its lifetime was extended");
    assert!(list(&guarded.caller("root", &["admin"]), "bob").await.is_empty());
    let now = &list(&guarded.caller("root", &["admin"]), "ann").await[0];
    assert!(now.expire_time.map(|t| (t.seconds, t.nanos)) > its.expire_time.map(|t| (t.seconds, t.nanos)));
    eventually("it lapses when it is not used", async || {
        !connection.exists::<_, bool>(format!("{}session:{}", redis.prefix, its.session_id)).await.expect("asked")
    })
    .await;
    assert_refused(ask(&sliding).await, Code::Unauthenticated, "SESSION_ENDED");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_session_ends_at_its_maximum_lifetime() {
    let settings =
        [("sessions.refresh_interval", "100ms"), ("sessions.lifetime", "1s"), ("sessions.max_lifetime", "2s")];
    let (guarded, _redis) = guarded_with(&settings).await;
    let client = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    ask(&client).await.expect("it has begun");
    eventually("it ends", async || ask(&client).await.is_err()).await;
    assert_refused(ask(&client).await, Code::Unauthenticated, "SESSION_ENDED");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_session_beyond_the_limit_replaces_the_one_that_expires_first() {
    let (guarded, redis) = guarded_with(&[("sessions.max_per_user", "3")]).await;
    let mut opened = Vec::new();
    for minutes in [30, 10, 20] {
        let wish = pb::CreateSessionRequest { lifetime: millis(minutes * 60_000), ..wish("ann", &[]) };
        opened.push(open(&guarded, wish).await);
    }
    let first_to_lapse = guarded.with_token(&opened[1].0);
    ask(&first_to_lapse).await.expect("good");
    let admin = guarded.caller("root", &["admin"]);
    let more = admin.sessions().create_session(wish("ann", &[])).await.expect("one more").into_inner();
    assert_eq!(more.revoked_session_ids, [opened[1].1.session_id.clone()]);
    eventually("it is heard of", async || ask(&first_to_lapse).await.is_err()).await;
    assert_eq!(list(&admin, "ann").await.len(), 3);
    assert_eq!(redis.dump().await.len(), 5, "three sessions and two lists");
    open(&guarded, wish("bob", &[])).await;
    assert_eq!(list(&admin, "ann").await.len(), 3, "another's count for another");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn sessions_are_listed_in_pages_the_oldest_first() {
    let (guarded, _redis) = guarded().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(open(&guarded, wish("ann", &[])).await.1);
    }
    ids.sort_by_key(|session| (session.create_time.map(|t| (t.seconds, t.nanos)), session.session_id.clone()));
    let ids: Vec<_> = ids.into_iter().map(|session| session.session_id).collect();
    let admin = guarded.caller("root", &["admin"]);
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSessionsRequest { user_id: "ann".into(), page_size: 2, page_token: token };
        let page = admin.sessions().list_sessions(request).await.expect("a page").into_inner();
        found.extend(page.sessions.into_iter().map(|session| session.session_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = pb::ListSessionsRequest { user_id: "bob".into(), page_size: 2, page_token: token.clone() };
        let refused = admin.sessions().list_sessions(other).await;
        assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let mut sorted = found.clone();
    sorted.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!((found.len(), sorted), (5, expected));
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn signing_out_ends_only_the_current_session() {
    let (guarded, _redis) = guarded().await;
    let (phone, desk) = (open(&guarded, wish("ann", &[])).await, open(&guarded, wish("ann", &[])).await);
    let (phone, desk) = (guarded.with_token(&phone.0), guarded.with_token(&desk.0));
    phone.sessions().revoke_current_session(pb::RevokeCurrentSessionRequest {}).await.expect("signed out");
    assert_refused(ask(&phone).await, Code::Unauthenticated, "SESSION_ENDED");
    ask(&desk).await.expect("another session of hers");
    let jwt = guarded.user("ann");
    let none = jwt.sessions().get_current_session(pb::GetCurrentSessionRequest {}).await;
    assert_refused(none, Code::NotFound, "SESSION_NOT_FOUND");
    let none = jwt.sessions().revoke_current_session(pb::RevokeCurrentSessionRequest {}).await;
    assert_refused(none, Code::NotFound, "SESSION_NOT_FOUND");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn invalid_requests_name_every_bad_field() {
    let (guarded, _redis) = guarded_with(&[("sessions.lifetime", "30min"), ("sessions.max_lifetime", "1h")]).await;
    let admin = guarded.caller("root", &["admin"]);
    let create = async |wish| admin.sessions().create_session(wish).await;
    let bad = pb::CreateSessionRequest {
        user_id: "a b".into(),
        roles: vec![0, 4, 99],
        kind: 7,
        lifetime: millis(3_600_001),
        description: "x".repeat(257),
    };
    let status = assert_refused(create(bad).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(
        crate::support::bad_fields(&status),
        ["user_id", "roles[0]", "roles[2]", "kind", "lifetime", "description"]
    );
    for lifetime in [millis(0), millis(999), millis(-5)] {
        let refused = create(pb::CreateSessionRequest { lifetime, ..wish("ann", &[]) }).await;
        assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    }
    let line = pb::CreateSessionRequest { description: "a\nline of a log".into(), ..wish("ann", &[]) };
    assert_refused(create(line).await, Code::InvalidArgument, "FIELD_INVALID");
    let refused = create(pb::CreateSessionRequest { roles: vec![4; 17], ..wish("ann", &[]) }).await;
    assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    for session_id in ["", "x", "rs_", &"A".repeat(44)] {
        let session = pb::Session { session_id: session_id.into(), ..Default::default() };
        assert_refused(revoke(&admin, &session).await, Code::InvalidArgument, "FIELD_INVALID");
    }
    for user_id in ["", "a b"] {
        let request = pb::RevokeUserSessionsRequest { user_id: user_id.into(), ..Default::default() };
        let refused = admin.sessions().revoke_user_sessions(request).await;
        assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID");
    }
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn without_redis_sessions_are_disabled() {
    let guarded = crate::support::Guarded::start().await;
    let refused = guarded.caller("root", &["admin"]).sessions().create_session(wish("ann", &[])).await;
    assert_refused(refused, Code::FailedPrecondition, "SESSIONS_DISABLED");
    let token = format!("rs_{}", "A".repeat(43));
    let status = assert_refused(ask(&guarded.with_token(&token)).await, Code::Unauthenticated, "TOKEN_INVALID");
    assert_eq!(metadata(&status)["problem"], "KIND");
    guarded.check_and_stop().await;
}
