//! With a real Redis: sessions are opened, used, revoked, and refused everywhere.

mod canary;
mod commands;
mod life;
mod messages;
mod outage;
mod reach;
mod refusals;
mod revocation;
mod unknown;

use reservd::rpc::pb::{self, Role};
use tonic::Status;

use crate::support::{Client, Guarded, Redis, TestRedis};

/// A server with sessions in the shared Redis.
async fn guarded() -> (Guarded, TestRedis) {
    guarded_with(&[]).await
}

async fn guarded_with(settings: &[(&str, &str)]) -> (Guarded, TestRedis) {
    let redis = TestRedis::new().await;
    (on(&redis, settings).await, redis)
}

/// A server with sessions in this Redis.
async fn on(redis: &TestRedis, settings: &[(&str, &str)]) -> Guarded {
    Guarded::with(&[&redis.settings()[..], settings].concat()).await
}

/// A server with sessions in a Redis that the test may kill.
async fn with_own_redis(settings: &[(&str, &str)]) -> (Guarded, Redis) {
    let redis = Redis::start().await;
    let names = redis.names();
    (on(&names, settings).await, redis)
}

fn wish(user_id: &str, roles: &[Role]) -> pb::CreateSessionRequest {
    let roles = roles.iter().map(|role| (*role).into()).collect();
    pb::CreateSessionRequest { user_id: user_id.into(), roles, ..Default::default() }
}

/// Opens a session as an admin; returns its token and the session.
async fn open(guarded: &Guarded, wish: pb::CreateSessionRequest) -> (String, pb::Session) {
    let admin = guarded.caller("root", &["admin"]);
    let opened = admin.sessions().create_session(wish).await.expect("a session").into_inner();
    (opened.token, opened.session.expect("it is in the answer"))
}

/// A call that any role may make.
async fn ask(client: &Client) -> Result<(), Status> {
    client.events().list_events(pb::ListEventsRequest::default()).await.map(drop)
}

async fn list(client: &Client, user_id: &str) -> Vec<pb::Session> {
    let request = pb::ListSessionsRequest { user_id: user_id.into(), ..Default::default() };
    client.sessions().list_sessions(request).await.expect("a list").into_inner().sessions
}

async fn revoke(client: &Client, session: &pb::Session) -> Result<(), Status> {
    let request = pb::RevokeSessionRequest { session_id: session.session_id.clone() };
    client.sessions().revoke_session(request).await.map(drop)
}
