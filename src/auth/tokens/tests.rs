//! Tests of `tokens`.

use super::*;
use crate::{
    auth::principal::{Principal, Roles},
    domain::caller::Actor,
};

fn credentials() -> Arc<Credentials> {
    let name = Actor::parse("token:ann").expect("valid");
    Arc::new(Credentials::of(Principal { name, roles: Roles::default(), user_id: None }))
}

#[test]
fn the_last_token_matches_only_itself_and_only_while_it_is_good() {
    let (last, one) = (LastToken::default(), credentials());
    assert!(last.get("one").is_none());
    last.set("one", &one);
    assert!(last.get("one").is_some() && last.get("on").is_none() && last.get("one.").is_none());
    one.revoked.cancel();
    assert!(last.get("one").is_none());
}

#[test]
fn tokens_in_use_stay_cached_and_the_cache_stays_small() {
    let (mut cache, one) = (TokenCache::default(), digest_of("the one in use"));
    cache.put(one, credentials());
    for number in 0..5 * GENERATION_SIZE {
        cache.put(digest_of(&number.to_string()), credentials());
        if number % 1000 == 0 {
            assert!(cache.get(&one).is_some(), "{number}");
        }
    }
    assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION_SIZE);
}
