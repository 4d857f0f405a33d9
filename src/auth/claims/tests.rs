//! Tests of the claims of a token.

use serde_json::json;

use super::*;

const NOW: i64 = 1_000_000;

fn expectations(roles_claim: &str, user_claim: &str) -> Expectations {
    Expectations {
        issuer: "issuer".into(),
        audience: "reservd".into(),
        roles_claim: roles_claim.into(),
        user_claim: user_claim.into(),
        leeway: 30,
        max_lifetime: 3600,
    }
}

fn good() -> Value {
    json!({"iss": "issuer", "aud": "reservd", "sub": "ann", "nbf": NOW - 10, "exp": NOW + 600, "roles": ["user"]})
}

fn check(changes: &[(&str, Value)]) -> Result<VerifiedClaims, TokenProblem> {
    let mut claims = good();
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    expectations("roles", "sub").check(claims.to_string().as_bytes(), NOW)
}

#[test]
fn times_are_compared_with_the_leeway_to_the_second() {
    assert_eq!(check(&[]).expect("good").expires_at, NOW + 630);
    assert!(check(&[("exp", json!(NOW - 29)), ("nbf", json!(NOW - 100))]).is_ok());
    assert_eq!(check(&[("exp", json!(NOW - 30)), ("nbf", json!(NOW - 100))]), Err(TokenProblem::Expired));
    assert!(check(&[("nbf", json!(NOW + 30))]).is_ok());
    assert_eq!(check(&[("nbf", json!(NOW + 31))]), Err(TokenProblem::NotYetValid));
    assert!(check(&[("nbf", json!(NOW)), ("exp", json!(NOW + 3600))]).is_ok());
    assert_eq!(check(&[("nbf", json!(NOW)), ("exp", json!(NOW + 3601))]), Err(TokenProblem::Lifetime));
    assert_eq!(check(&[("nbf", json!(NOW)), ("exp", json!(1e300))]), Err(TokenProblem::Lifetime));
    assert_eq!(check(&[("exp", json!(NOW)), ("nbf", json!(NOW + 20))]), Err(TokenProblem::Lifetime));
}

#[test]
fn roles_may_be_words_or_a_list_or_nested() {
    let roles = |claim: &str, name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        let claimed = expectations(claim, "sub").check(claims.to_string().as_bytes(), NOW).expect("good");
        claimed.principal.roles.names().collect::<Vec<_>>()
    };
    assert_eq!(roles("roles", "roles", json!(["service", "baker", "admin"])), ["admin", "service"]);
    assert_eq!(roles("scope", "scope", json!("openid reader event.manager")), ["event.manager", "reader"]);
    assert_eq!(roles("realm.roles", "realm", json!({"roles": ["user"]})), ["user"]);
    assert_eq!(roles("a.b", "a.b", json!(["user"])), ["user"]);
    assert_eq!(roles("nowhere", "roles", json!(["admin"])), [""; 0]);
    for bad in [json!(7), json!([7]), json!({}), json!(true)] {
        assert_eq!(check(&[("roles", bad)]), Err(TokenProblem::Roles));
    }
}

#[test]
fn the_configured_claim_has_the_user_id() {
    let claims = |customer: Value| {
        let mut claims = good();
        claims["customer"] = customer;
        expectations("roles", "customer").check(claims.to_string().as_bytes(), NOW)
    };
    assert_eq!(claims(json!("c-7")).expect("good").principal.user_id, UserId::parse("c-7"));
    for bad in [json!(""), json!("a b"), json!(7), json!("x".repeat(256))] {
        assert_eq!(claims(bad), Err(TokenProblem::Subject));
    }
}
