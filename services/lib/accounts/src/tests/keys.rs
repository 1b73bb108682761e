//! End-to-end keys.

use serde_json::{Value, json};

use super::*;

const CURVE: &str = "signed_curve25519";

fn key(n: usize) -> OneTimeKey {
    OneTimeKey { algorithm: CURVE.into(), key_id: format!("k{n:03}"), key: format!("\"{n}\"").into_bytes() }
}

#[tokio::test]
async fn each_one_time_key_is_handed_out_once_in_order_and_then_the_fallback() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let device = registered(&accounts, user).await.device_id;
    let keys: Vec<_> = (0..50).map(key).collect();
    accounts.upload_one_time_keys(TENANT, user, &device, keys.clone()).await.unwrap();
    accounts.upload_one_time_keys(TENANT, user, &device, keys).await.unwrap();
    let other = OneTimeKey { key: b"{}".to_vec(), ..key(3) };
    let refused = accounts.upload_one_time_keys(TENANT, user, &device, vec![other]).await;
    assert!(matches!(refused, Err(Error::KeyExists(id)) if id == "k003"));
    let fallback = OneTimeKey { key_id: "fallback".into(), ..key(0) };
    accounts.set_fallback_keys(TENANT, user, &device, vec![fallback]).await.unwrap();
    let (counts, unused) = accounts.key_counts(TENANT, user, &device).await.unwrap();
    assert_eq!((counts[CURVE], unused.len()), (50, 1));
    let claims = (0..100).map(|_| accounts.claim_one_time_key(TENANT, user, &device, CURVE));
    let mut ids: Vec<String> =
        futures_util::future::join_all(claims).await.into_iter().map(|claim| claim.unwrap().unwrap().0).collect();
    ids.sort();
    let expected = (0..50).map(|_| "fallback".to_owned()).chain((0..50).map(|n| format!("k{n:03}")));
    assert_eq!(ids, expected.collect::<Vec<_>>());
    assert!(accounts.key_counts(TENANT, user, &device).await.unwrap().1.is_empty(), "the fallback key is used");
}

#[tokio::test]
async fn a_repeated_upload_brings_no_claimed_key_back() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let device = registered(&accounts, user).await.device_id;
    let keys: Vec<_> = (0..5).map(key).collect();
    accounts.upload_one_time_keys(TENANT, user, &device, keys.clone()).await.unwrap();
    let claim = || accounts.claim_one_time_key(TENANT, user, &device, CURVE);
    assert_eq!(claim().await.unwrap().unwrap().0, "k000");
    // The answer to the upload was lost.
    accounts.upload_one_time_keys(TENANT, user, &device, keys).await.unwrap();
    assert_eq!(accounts.key_counts(TENANT, user, &device).await.unwrap().0[CURVE], 4);
    // A client that began anew may come to the same id with another key.
    let again = OneTimeKey { key: b"\"other\"".to_vec(), ..key(0) };
    accounts.upload_one_time_keys(TENANT, user, &device, vec![again.clone()]).await.unwrap();
    let mut claimed = Vec::new();
    while let Some(key) = claim().await.unwrap() {
        claimed.push(key);
    }
    let expected: Vec<_> = (1..5).map(key).chain([again]).map(|key| (key.key_id, key.key)).collect();
    assert_eq!(claimed, expected);
}

#[tokio::test]
async fn keys_are_capped_and_old_claimed_ones_forgotten() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let device = registered(&accounts, user).await.device_id;
    let upload =
        |from: usize, to: usize| accounts.upload_one_time_keys(TENANT, user, &device, (from..to).map(key).collect());
    upload(0, 500).await.unwrap();
    assert!(matches!(upload(500, 501).await, Err(Error::TooLarge(_))));
    for _ in 0..500 {
        accounts.claim_one_time_key(TENANT, user, &device, CURVE).await.unwrap().unwrap();
    }
    upload(500, 1000).await.unwrap();
    for n in 500..1000 {
        assert_eq!(accounts.claim_one_time_key(TENANT, user, &device, CURVE).await.unwrap().unwrap().0, key(n).key_id);
    }
    upload(1000, 1001).await.unwrap();
    upload(999, 1001).await.unwrap();
    assert_eq!(accounts.key_counts(TENANT, user, &device).await.unwrap().0[CURVE], 1);
    let partition = polity_store::values_of![TENANT, user.as_str(), device.as_str(), CURVE];
    let all = polity_store::Bounds::all();
    let page =
        accounts.store.scan(&polity_store::schema::ONE_TIME_KEYS, partition, all, 5000, Consistency::Quorum).await;
    assert_eq!(page.unwrap().rows.len(), 502, "the head, 500 claimed, one unclaimed");
}

#[tokio::test]
async fn the_same_fallback_key_again_stays_used() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let device = registered(&accounts, user).await.device_id;
    let set = |n| accounts.set_fallback_keys(TENANT, user, &device, vec![key(n)]);
    set(1).await.unwrap();
    assert_eq!(accounts.claim_one_time_key(TENANT, user, &device, CURVE).await.unwrap().unwrap().0, "k001");
    set(1).await.unwrap();
    assert!(accounts.key_counts(TENANT, user, &device).await.unwrap().1.is_empty());
    set(2).await.unwrap();
    assert_eq!(accounts.key_counts(TENANT, user, &device).await.unwrap().1, [CURVE]);
}

fn cross_key(user: &UserId, usage: &str, public: &str) -> Value {
    json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{public}"): public}})
}

fn signed(mut object: Value, signer: &UserId, by: &str) -> Value {
    object["signatures"] = json!({signer.as_str(): {format!("ed25519:{by}"): format!("by {by}")}});
    object
}

#[tokio::test]
async fn signatures_of_several_devices_stand_side_by_side_and_only_who_may_sees_them() {
    let accounts = accounts().await;
    let (a, b, c) = (user_id!("@a:b"), user_id!("@b:b"), user_id!("@c:b"));
    for user in [a, b, c] {
        registered(&accounts, user).await;
    }
    let master = cross_key(a, "master", "MASTER");
    accounts.set_cross_signing(TENANT, a, vec![("master", master.to_string().into_bytes())]).await.unwrap();
    for (signer, by) in [(a, "D1"), (a, "D2"), (b, "USER")] {
        let signature = ("MASTER".to_owned(), signed(master.clone(), signer, by));
        accounts.add_signatures(TENANT, a, signer, vec![signature]).await.unwrap();
    }
    let own = json!({"ed25519:D1": "by D1", "ed25519:D2": "by D2"});
    for (viewer, of_b) in [(a, Value::Null), (b, json!({"ed25519:USER": "by USER"})), (c, Value::Null)] {
        let seen = accounts.cross_signing(TENANT, a, "master", viewer).await.unwrap().unwrap();
        assert_eq!((&seen["signatures"][a.as_str()], &seen["signatures"][b.as_str()]), (&own, &of_b), "{viewer}");
    }
}

#[tokio::test]
async fn only_signatures_by_the_signer_of_keys_that_are_there_are_taken() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let device = registered(&accounts, a).await.device_id;
    registered(&accounts, b).await;
    let keys = json!({"user_id": a, "device_id": device, "keys": {"ed25519:X": "x"}});
    accounts.set_device_keys(TENANT, a, &device, keys.to_string().into_bytes()).await.unwrap();
    let name = device.to_string();
    let add = |signer, name: &str, object| accounts.add_signatures(TENANT, a, signer, vec![(name.to_owned(), object)]);
    let mut other = keys.clone();
    other["keys"] = json!({"ed25519:X": "y"});
    for (what, outcome) in [
        ("another's device", add(b, &name, signed(keys.clone(), b, "S")).await),
        ("an unknown key", add(a, "NONE", signed(keys.clone(), a, "S")).await),
        ("another content", add(a, &name, signed(other, a, "S")).await),
        ("another signer", add(a, &name, signed(keys.clone(), b, "S")).await),
        ("no signature", add(a, &name, keys.clone()).await),
    ] {
        assert!(matches!(outcome, Err(Error::Invalid(_))), "{what}: {outcome:?}");
    }
    add(a, &name, signed(keys.clone(), a, "S")).await.unwrap();
    let shown = accounts.device_keys(TENANT, a).await.unwrap().remove(0).1;
    assert_eq!(shown, signed(keys.clone(), a, "S"));
    let bad =
        [("master", cross_key(b, "master", "M")), ("master", cross_key(a, "user_signing", "M")), ("master", json!([]))];
    for (usage, key) in bad {
        let set = accounts.set_cross_signing(TENANT, a, vec![(usage, key.to_string().into_bytes())]).await;
        assert!(matches!(set, Err(Error::Invalid(_))), "{key}");
    }
}
