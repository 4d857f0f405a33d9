//! Tests of `permissions`.

use super::*;
use crate::domain::{caller::Actor, ids::UserId};

fn principal(roles: &[Role]) -> Principal {
    let user_id = roles.contains(&Role::User).then(|| UserId::parse("ann").expect("valid"));
    Principal { name: Actor::parse("token:ann").expect("valid"), roles: Roles::of(roles), user_id }
}

#[test]
fn a_user_accesses_its_own_data_unless_another_role_accesses_all() {
    let own = Some(Scope::Own(UserId::parse("ann").expect("valid")));
    assert_eq!(RESERVE.grant(&principal(&[Role::User])), own);
    assert_eq!(RESERVE.grant(&principal(&[Role::User, EventManager])), own);
    assert_eq!(RESERVE.grant(&principal(&[Role::User, Service])), Some(Scope::All));
    assert_eq!(RESERVE.grant(&principal(&[Reader, EventManager])), None);
}

#[test]
fn a_principal_without_roles_is_denied_where_one_is_needed() {
    for (path, need) in TABLE {
        let granted = need.grant(&principal(&[]));
        assert_eq!(granted.is_some(), !matches!(need, Need::Role { .. }), "{path}");
        assert_eq!(need.grant(&principal(&[Admin])), Some(Scope::All), "{path}");
    }
}

#[test]
fn each_rpc_has_one_row() {
    assert_eq!(by_path().len(), TABLE.len());
}
