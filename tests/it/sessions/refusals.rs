//! Invalid sessions are refused, each for its own reason; and no caller grants, sees or ends more than it may.

use redis::AsyncCommands;
use reservd::{
    auth::session_token::{SessionId, SessionToken},
    rpc::pb::{self, Role},
};
use tonic::{Code, Request, Status};

use super::{ask, guarded, list, open, revoke, wish};
use crate::support::{Client, Guarded, TestRedis, assert_refused, bad_fields, metadata, millis};

/// Makes a call with these values of `authorization`.
async fn ask_with(guarded: &Guarded, values: &[String]) -> Result<(), Status> {
    let mut request = Request::new(pb::ListEventsRequest::default());
    for value in values {
        request.metadata_mut().append("authorization", value.parse().expect("a header's value"));
    }
    guarded.server.events().list_events(request).await.map(drop)
}

#[tokio::test]
async fn invalid_sessions_are_refused_each_for_its_own_reason() {
    let (guarded, redis) = guarded().await;
    let (good, session) = open(&guarded, wish("ann", &[])).await;
    ask(&guarded.with_token(&good)).await.expect("a good one");
    let (revoked, its) = open(&guarded, wish("ann", &[])).await;
    revoke(&guarded.caller("root", &["admin"]), &its).await.expect("revoked");
    let (lapsed, its) = open(&guarded, wish("ann", &[])).await;
    let mut connection = redis.connect().await;
    let key = |id: &str| format!("{}session:{id}", redis.prefix);
    connection.pexpire::<_, ()>(key(&its.session_id), 1).await.expect("its time is over soon");
    crate::support::eventually("its time is over", async || {
        !connection.exists::<_, bool>(key(&its.session_id)).await.expect("asked")
    })
    .await;
    let body = &good[3..];
    let other = |place: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'E' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let shape = [
        ("nothing but the beginning", "rs_".to_owned()),
        ("one that is cut", good[..45].to_owned()),
        ("half of one", good[..20].to_owned()),
        ("one character more", format!("{good}A")),
        ("one twice", format!("{good}{good}")),
        ("one twice after one beginning", format!("{good}{body}")),
        ("a very long one", format!("rs_{}", "A".repeat(7000))),
        ("padding", format!("{good}=")),
        ("padding in place of a character", format!("{}=", &good[..45])),
        ("another spelling of the same bytes", format!("{}{}", &good[..45], respelt(&good[45..]))),
        ("the alphabet of plain base64", format!("rs_+/{}", &body[2..])),
        ("a space inside", format!("{} {}", &good[..20], &good[21..])),
        ("a space after it", format!("{good} ")),
        ("a zero spelt out", format!("{}%00", &good[..43])),
        ("a key of Redis", format!("rs_{}", key(&session.session_id))),
        ("a pattern", format!("rs_{}*", &body[..42])),
        ("a list", format!("rs_[{}]", &body[..41])),
        ("a command of Redis", "rs_*1 $8 FLUSHALL".to_owned()),
        ("quotes", format!("rs_\"{}\"", &body[..41])),
        ("a JWT after the beginning", format!("rs_{}", guarded.issuer.token("ann", &["admin"]))),
    ];
    let jwt_shape = [
        ("no beginning", body.to_owned()),
        ("another beginning", format!("rs-{body}")),
        ("capitals", format!("RS_{body}")),
        ("its name without the beginning", session.session_id.clone()),
    ];
    let ended = [
        ("one that was never opened", format!("rs_{}", "A".repeat(43))),
        ("another that was never opened", SessionToken::new().expect("randomness").expose().to_owned()),
        ("one that is revoked", revoked),
        ("one that has lapsed", lapsed),
        ("one with another first character", other(3)),
        ("one with another character in the middle", other(20)),
        ("one with another last but one character", other(44)),
        ("the session's name, which everybody may know", format!("rs_{}", session.session_id)),
        ("a token that reads backwards", format!("rs_{}A", body[..42].chars().rev().collect::<String>())),
    ];
    let all = shape.map(|(what, token)| (what, token, "TOKEN_INVALID", "SESSION_SHAPE")).into_iter();
    let all = all.chain(jwt_shape.map(|(what, token)| (what, token, "TOKEN_INVALID", "SHAPE")));
    let all = all.chain(ended.map(|(what, token)| (what, token, "SESSION_ENDED", "")));
    let mut count = 0;
    for (what, token, why, problem) in all {
        // Twice: the cache must not accept the second one.
        for _ in 0..2 {
            let status = ask_with(&guarded, &[format!("Bearer {token}")]).await.expect_err(what);
            assert_eq!(
                (status.code(), crate::support::reason(&status).as_str()),
                (Code::Unauthenticated, why),
                "{what}"
            );
            assert_eq!(metadata(&status).get("problem").map_or("", String::as_str), problem, "{what}");
        }
        count += 1;
    }
    assert!(count > 30, "{count}");
    for values in [
        vec![format!("Basic {good}")],
        vec![good.clone()],
        vec![format!("Bearer{good}")],
        vec![format!("Session {good}")],
        vec![format!("Bearer {good}"), format!("Bearer {good}")],
        vec![format!("Bearer {good}"), format!("Bearer {}", guarded.issuer.token("ann", &["admin"]))],
    ] {
        let status = assert_refused(ask_with(&guarded, &values).await, Code::Unauthenticated, "TOKEN_INVALID");
        assert_eq!(metadata(&status)["problem"], "SCHEME", "{values:?}");
    }
    ask_with(&guarded, &[format!("bearer {good}")]).await.expect("and a good one is still taken");
    guarded.check_and_stop().await;
}

/// Sets an unused bit in the last character of a token.
fn respelt(last: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = ALPHABET.find(last).expect("of the alphabet");
    ALPHABET[place + 1..place + 2].to_owned()
}

#[tokio::test]
async fn foreign_data_in_redis_grants_no_access() {
    let (guarded, redis) = guarded().await;
    let mut connection = redis.connect().await;
    let good: &[(&str, &str)] = &[
        ("user_id", "ann"),
        ("roles", "admin"),
        ("created_by", "x"),
        ("description", ""),
        ("kind", "fixed"),
        ("lifetime_ms", "60000"),
        ("create_ms", "1700000000000"),
        ("use_ms", "1700000000000"),
        ("end_ms", "1900000000000"),
        ("expire_ms", "1900000000000"),
    ];
    let write = async |change: Option<(&str, &str)>, lapses: bool| {
        let token = SessionToken::new().expect("randomness");
        let key = format!("{}session:{}", redis.prefix, SessionId::of_token(token.expose()).expect("good"));
        let mut connection = connection.clone();
        connection.hset_multiple::<_, _, _, ()>(&key, good).await.expect("written");
        if let Some((name, value)) = change {
            connection.hset::<_, _, _, ()>(&key, name, value).await.expect("written");
        }
        if lapses {
            connection.pexpire::<_, ()>(&key, 60_000).await.expect("written");
        }
        ask(&guarded.with_token(token.expose())).await
    };
    write(None, true).await.expect("the test writes what the program would");
    assert_refused(write(None, false).await, Code::Unauthenticated, "SESSION_ENDED");
    for change in [
        ("roles", "king"),
        ("roles", "admin king"),
        ("user_id", "a b"),
        ("user_id", ""),
        ("kind", "eternal"),
        ("end_ms", "never"),
    ] {
        assert_refused(write(Some(change), true).await, Code::Unauthenticated, "SESSION_ENDED");
    }
    // A key of another type.
    let token = SessionToken::new().expect("randomness");
    connection
        .set_ex::<_, _, ()>(format!("{}session:{}", redis.prefix, token.id()), "ann admin", 60)
        .await
        .expect("written");
    assert_refused(ask(&guarded.with_token(token.expose())).await, Code::Unavailable, "SESSIONS_UNAVAILABLE");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn with_a_key_a_session_that_reservd_did_not_sign_grants_no_access() {
    let redis = TestRedis::new().await;
    let key = ("sessions.key", "a key for the tests of 32 characters");
    let guarded = super::on(&redis, &[key]).await;
    let (anns, hers) = open(&guarded, wish("ann", &[])).await;
    let (bobs, his) = open(&guarded, wish("bob", &[])).await;
    for token in [&anns, &bobs] {
        ask(&guarded.with_token(token)).await.expect("good");
    }
    let mut connection = redis.connect().await;
    let record = |session: &pb::Session| format!("{}session:{}", redis.prefix, session.session_id);
    // More roles for a session, and a copy of another session for a token of the attacker's.
    connection.hset::<_, _, _, ()>(record(&hers), "roles", "admin").await.expect("written");
    let attackers = SessionToken::new().expect("randomness");
    let copy = format!("{}session:{}", redis.prefix, attackers.id());
    connection.copy::<_, _, _, ()>(record(&his), &copy, redis::CopyOptions::default()).await.expect("written");
    // Another server has not cached them.
    let other = guarded.twin_with(&[&redis.settings()[..], &[key]].concat()).await;
    let ask_there = async |token: &str| ask(&Client::new(other.channel(), token)).await;
    for token in [&anns, attackers.expose()] {
        assert_refused(ask_there(token).await, Code::Unauthenticated, "SESSION_ENDED");
    }
    ask_there(&bobs).await.expect("it is signed");
    other.app.stop().await;
    // Without the key, and with another.
    let other = guarded.twin_with(&[&redis.settings()[..], &[("sessions.key", &"x".repeat(32))]].concat()).await;
    assert_refused(ask(&Client::new(other.channel(), &bobs)).await, Code::Unauthenticated, "SESSION_ENDED");
    other.app.stop().await;
    let unsigned = guarded.twin_with(&redis.settings()).await;
    ask(&Client::new(unsigned.channel(), attackers.expose())).await.expect("without a key Redis is believed");
    unsigned.app.stop().await;
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn no_caller_grants_more_than_it_has() {
    let (guarded, _redis) = guarded().await;
    let create = async |client: &Client, roles: &[Role]| client.sessions().create_session(wish("ann", roles)).await;
    let shop = guarded.service("shop");
    create(&shop, &[]).await.expect("a user");
    create(&shop, &[Role::User]).await.expect("a user");
    for roles in [
        &[Role::Admin][..],
        &[Role::Service],
        &[Role::EventManager],
        &[Role::Reader],
        &[Role::User, Role::Admin],
        &[Role::User, Role::Service],
        &[Role::User, Role::Reader],
    ] {
        let status = assert_refused(create(&shop, roles).await, Code::PermissionDenied, "ROLE_NOT_GRANTABLE");
        assert_eq!(metadata(&status)["grantable"], "user", "{roles:?}");
        // The same holds for sessions of a service, and of callers that may not open sessions.
        for has in [&[Role::Service][..], &[Role::Service, Role::Reader], &[Role::Service, Role::User]] {
            let token = open(&guarded, wish("shop", has)).await.0;
            let refused = create(&guarded.with_token(&token), roles).await;
            assert_refused(refused, Code::PermissionDenied, "ROLE_NOT_GRANTABLE");
        }
        for has in [Role::User, Role::Reader, Role::EventManager] {
            let token = open(&guarded, wish("ann", &[has])).await.0;
            let refused = create(&guarded.with_token(&token), roles).await;
            assert_refused(refused, Code::PermissionDenied, "ROLE_MISSING");
        }
    }
    let mine = create(&guarded.user("ann"), &[]).await;
    assert_refused(mine, Code::PermissionDenied, "ROLE_MISSING");
    let denied = guarded.server.metric("reservd_calls_denied_total{reason=\"ROLE_NOT_GRANTABLE\"}").await;
    assert_eq!(denied, 28.0, "each is noted");
    let of_root = open(&guarded, wish("root", &[Role::Admin])).await.0;
    create(&guarded.with_token(&of_root), &[Role::Admin]).await.expect("an admin gives what it has");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_user_sees_and_ends_only_its_own_sessions() {
    let (guarded, _redis) = guarded().await;
    let (anns, hers) = open(&guarded, wish("ann", &[])).await;
    let (bobs, bobs_session) = open(&guarded, wish("bob", &[])).await;
    // A user_id "*" is not a wildcard.
    let (stars, its) = open(&guarded, wish("*", &[])).await;
    for (token, own, others) in [
        (&anns, &hers, [&bobs_session, &its]),
        (&bobs, &bobs_session, [&hers, &its]),
        (&stars, &its, [&hers, &bobs_session]),
    ] {
        let client = guarded.with_token(token);
        let listed = list(&client, "").await;
        assert_eq!(listed.iter().map(|it| (&it.session_id, it.current)).collect::<Vec<_>>(), [(&own.session_id, true)]);
        for other in others {
            let get = pb::GetSessionRequest { session_id: other.session_id.clone() };
            assert_refused(client.sessions().get_session(get).await, Code::NotFound, "SESSION_NOT_FOUND");
            assert_refused(revoke(&client, other).await, Code::NotFound, "SESSION_NOT_FOUND");
            let request = pb::ListSessionsRequest { user_id: other.user_id.clone(), ..Default::default() };
            assert_refused(client.sessions().list_sessions(request).await, Code::PermissionDenied, "USER_MISMATCH");
            let request = pb::RevokeUserSessionsRequest { user_id: other.user_id.clone(), ..Default::default() };
            let refused = client.sessions().revoke_user_sessions(request).await;
            assert_refused(refused, Code::PermissionDenied, "USER_MISMATCH");
        }
    }
    for token in [&anns, &bobs, &stars] {
        ask(&guarded.with_token(token)).await.expect("no session was ended");
    }
    // That user ends only its own sessions.
    let request = pb::RevokeUserSessionsRequest::default();
    let star = guarded.with_token(&stars);
    assert_eq!(
        star.sessions().revoke_user_sessions(request).await.expect("its own").into_inner().revoked_session_count,
        1
    );
    ask(&guarded.with_token(&anns)).await.expect("hers is good");
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn services_access_only_the_sessions_of_users() {
    let (guarded, _redis) = guarded().await;
    let (shop, desk) = (guarded.service("shop"), guarded.service("desk"));
    let users = shop.sessions().create_session(wish("ann", &[])).await.expect("a user").into_inner();
    let (admins, its) = open(&guarded, wish("ann", &[Role::Admin])).await;
    let mixed = open(&guarded, wish("ann", &[Role::User, Role::Admin])).await.1;
    let user_session = users.session.expect("it is in the answer");
    for service in [&shop, &desk] {
        let listed = list(service, "ann").await;
        assert_eq!(listed.iter().map(|it| &it.session_id).collect::<Vec<_>>(), [&user_session.session_id]);
        for other in [&its, &mixed] {
            assert_refused(revoke(service, other).await, Code::NotFound, "SESSION_NOT_FOUND");
            let get = pb::GetSessionRequest { session_id: other.session_id.clone() };
            assert_refused(service.sessions().get_session(get).await, Code::NotFound, "SESSION_NOT_FOUND");
        }
    }
    let request = pb::RevokeUserSessionsRequest { user_id: "ann".into(), ..Default::default() };
    assert_eq!(
        desk.sessions().revoke_user_sessions(request).await.expect("done").into_inner().revoked_session_count,
        1
    );
    ask(&guarded.with_token(&admins)).await.expect("an admin's is no service's to end");
    assert_eq!(list(&guarded.caller("root", &["admin"]), "ann").await.len(), 2);
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn a_token_is_returned_once_and_never_printed() {
    let (guarded, _redis) = guarded().await;
    let admin = guarded.caller("root", &["admin"]);
    let opened = admin.sessions().create_session(wish("ann", &[])).await.expect("a session").into_inner();
    assert!(!format!("{opened:?}").contains(&opened.token), "not even where the answer itself is printed");
    let bad = pb::CreateSessionRequest { lifetime: millis(1), ..wish("ann", &[]) };
    let refused = admin.sessions().create_session(bad).await;
    assert_eq!(bad_fields(&assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID")), ["lifetime"]);
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn prefixes_separate_sessions() {
    let (guarded, redis) = guarded().await;
    let token = open(&guarded, wish("ann", &[])).await.0;
    let other = TestRedis::new().await;
    assert_ne!(redis.prefix, other.prefix);
    let elsewhere = guarded.twin_with(&other.settings()).await;
    let stranger = Client::new(elsewhere.channel(), &token);
    assert_refused(ask(&stranger).await, Code::Unauthenticated, "SESSION_ENDED");
    elsewhere.app.stop().await;
    guarded.check_and_stop().await;
}
