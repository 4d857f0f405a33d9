//! Tests of `session`.

use super::*;
use crate::domain::caller::Actor;

fn grants(has: &[Role]) -> Vec<&'static str> {
    let name = Actor::parse("token:x").expect("valid");
    grantable(&Principal { name, roles: Roles::of(has), user_id: None }).names().collect()
}

#[test]
fn no_principal_grants_more_than_it_may() {
    assert_eq!(grants(&[Role::Admin]).len(), Role::ALL.len());
    assert_eq!(grants(&[Role::Service]), ["user"]);
    assert_eq!(grants(&[Role::Service, Role::EventManager]), ["user"]);
    for other in [Role::User, Role::EventManager, Role::Reader, Role::BoxOffice] {
        assert!(grants(&[other]).is_empty(), "{other:?}");
    }
}
