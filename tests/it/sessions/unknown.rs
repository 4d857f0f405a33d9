//! Unknown session tokens cost Redis little.

use reservd::auth::session_token::SessionToken;
use tonic::Code;

use super::{ask, guarded, guarded_with, open, wish};
use crate::support::{Guarded, assert_refused, metadata, reason};

async fn lookups(guarded: &Guarded) -> f64 {
    guarded.server.metric("reservd_session_lookups_total{outcome=\"ended\"}").await
}

fn unknown() -> String {
    SessionToken::new().expect("randomness").expose().to_owned()
}

#[tokio::test]
async fn a_repeated_unknown_token_is_looked_up_once() {
    let (guarded, _redis) = guarded().await;
    let client = guarded.with_token(&unknown());
    for _ in 0..20 {
        assert_refused(ask(&client).await, Code::Unauthenticated, "SESSION_ENDED");
    }
    assert_eq!(lookups(&guarded).await, 1.0);
    guarded.check_and_stop().await;
}

#[tokio::test]
async fn the_lookups_of_unknown_tokens_are_limited_by_address() {
    let limits = [("limits.unknown_session_rate", "1"), ("limits.unknown_session_burst", "5")];
    let (guarded, _redis) = guarded_with(&limits).await;
    let known = guarded.with_token(&open(&guarded, wish("ann", &[])).await.0);
    ask(&known).await.expect("good");
    let mut limited = Vec::new();
    for _ in 0..40 {
        let status = ask(&guarded.with_token(&unknown())).await.expect_err("it is unknown");
        if reason(&status) != "SESSION_ENDED" {
            limited.push(status);
        }
    }
    assert!(limited.len() > 20, "{}", limited.len());
    let status = assert_refused(Err::<(), _>(limited[0].clone()), Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(metadata(&status)["of"], "address");
    assert_eq!(lookups(&guarded).await as usize, 40 - limited.len(), "the others did not reach Redis");
    ask(&known).await.expect("a session that the server knows is not affected");
    guarded.check_and_stop().await;
}
