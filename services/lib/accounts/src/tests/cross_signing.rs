//! Cross-signing.

use serde_json::{Value, json};

use super::*;

async fn set(accounts: &Accounts, user: &UserId, keys: &[(&'static str, &Value)], proven: bool) -> Result<(), Error> {
    let key = |(usage, key): &(&'static str, &Value)| CrossSigningKey { usage, key: (*key).clone() };
    accounts.set_cross_signing(TENANT, user, &keys.iter().map(key).collect::<Vec<_>>(), proven).await
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
    set(&accounts, a, &[("master", &master)], false).await.unwrap();
    for (signer, by) in [(a, "D1"), (a, "D2"), (b, "USER")] {
        let signature = ("MASTER".to_owned(), signed(master.clone(), signer, by));
        assert!(accounts.add_signatures(TENANT, a, signer, vec![signature]).await.unwrap().is_empty());
    }
    let own = json!({"ed25519:D1": "by D1", "ed25519:D2": "by D2"});
    for (viewer, of_b) in [(a, Value::Null), (b, json!({"ed25519:USER": "by USER"})), (c, Value::Null)] {
        let seen = accounts.cross_signing(TENANT, a, "master", viewer).await.unwrap().unwrap();
        assert_eq!((&seen["signatures"][a.as_str()], &seen["signatures"][b.as_str()]), (&own, &of_b), "{viewer}");
    }
}

#[tokio::test]
async fn each_signature_is_taken_or_refused_for_itself() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let session = registered(&accounts, a).await;
    registered(&accounts, b).await;
    let device = session.device_id.as_str();
    let keys = json!({"user_id": a, "device_id": device, "keys": {"ed25519:X": "x"}});
    accounts.set_device_keys(session.device(), keys.to_string().into_bytes()).await.unwrap();
    let master = cross_key(a, "master", "MASTER");
    set(&accounts, a, &[("master", &master)], false).await.unwrap();
    let mut other = keys.clone();
    other["keys"] = json!({"ed25519:X": "y"});
    for (signer, name, object) in [
        (b, device, signed(keys.clone(), b, "S")),
        (a, "NONE", signed(keys.clone(), a, "S")),
        (a, device, signed(other, a, "S")),
        (a, device, signed(keys.clone(), b, "S")),
        (a, device, keys.clone()),
    ] {
        let failed = accounts.add_signatures(TENANT, a, signer, vec![(name.into(), object.clone())]).await.unwrap();
        assert!(matches!(&*failed, [(_, Error::Invalid(_) | Error::NotSignable)]), "{signer} {name} {object}");
    }
    // One bad signature takes no good one with it.
    let some = vec![
        ("NONE".to_owned(), signed(keys.clone(), a, "S")),
        (device.to_owned(), signed(keys.clone(), a, "S")),
        ("MASTER".to_owned(), signed(master.clone(), a, "S")),
    ];
    let failed = accounts.add_signatures(TENANT, a, a, some).await.unwrap();
    assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["NONE"]);
    let shown = accounts.device_keys(TENANT, a).await.unwrap().remove(0).1;
    assert_eq!(Value::Object(shown), signed(keys.clone(), a, "S"));
    assert_eq!(accounts.cross_signing(TENANT, a, "master", b).await.unwrap(), Some(signed(master, a, "S")));
}

#[tokio::test]
async fn the_first_keys_need_no_proof_and_others_do() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    registered(&accounts, a).await;
    let (master, own) = (cross_key(a, "master", "M"), cross_key(a, "self_signing", "S"));
    assert!(matches!(set(&accounts, a, &[("self_signing", &own)], false).await, Err(Error::NoMasterKey)));
    for (usage, key) in
        [("master", cross_key(b, "master", "M")), ("master", cross_key(a, "user_signing", "M")), ("master", json!([]))]
    {
        assert!(matches!(set(&accounts, a, &[(usage, &key)], false).await, Err(Error::Invalid(_))), "{key}");
    }
    // Of two first ones at once one is a replacement.
    let second = cross_key(a, "master", "OTHER");
    let (one, two) = ([("master", &master), ("self_signing", &own)], [("master", &second)]);
    let (one, two) = tokio::join!(set(&accounts, a, &one, false), set(&accounts, a, &two, false));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    set(&accounts, a, &[("master", &master), ("self_signing", &own)], true).await.unwrap();
    set(&accounts, a, &[("master", &master), ("self_signing", &own)], false).await.unwrap();
    let other = cross_key(a, "self_signing", "T");
    assert!(matches!(set(&accounts, a, &[("self_signing", &other)], false).await, Err(Error::Unproven)));
    assert_eq!(accounts.cross_signing(TENANT, a, "self_signing", b).await.unwrap(), Some(own));
    set(&accounts, a, &[("self_signing", &other)], true).await.unwrap();
    assert_eq!(accounts.cross_signing(TENANT, a, "self_signing", b).await.unwrap(), Some(other));
}

#[tokio::test]
async fn what_changes_nothing_is_told_to_nobody() {
    let accounts = accounts().await;
    let a = user_id!("@a:b");
    let session = registered(&accounts, a).await;
    let device = session.device_id.as_str();
    let keys = json!({"user_id": a, "device_id": device, "keys": {"ed25519:X": "x"}});
    let master = cross_key(a, "master", "MASTER");
    let all = async || {
        accounts.set_device_keys(session.device(), keys.to_string().into_bytes()).await.unwrap();
        set(&accounts, a, &[("master", &master)], false).await.unwrap();
        let signature = (device.to_owned(), signed(keys.clone(), a, "S"));
        assert!(accounts.add_signatures(TENANT, a, a, vec![signature]).await.unwrap().is_empty());
        accounts.rename_device(TENANT, a, &session.device_id, Some("name".into())).await.unwrap();
        let none = [device_id!("NONE").to_owned()];
        accounts.remove_devices(TENANT, a, &none).await.unwrap();
        accounts.device_lists_position(TENANT).await.unwrap().get()
    };
    let told = all().await;
    assert_eq!(told, 4, "each once");
    assert_eq!(all().await, told);
}
