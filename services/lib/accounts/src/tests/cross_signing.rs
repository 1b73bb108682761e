//! Cross-signing.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use ruma_common::{CanonicalJsonObject, OwnedUserId};
use serde_json::{Value, json};

use super::*;
use crate::{jobs, record};

async fn set(accounts: &Accounts, user: &UserId, keys: &[(&'static str, &Value)], proven: bool) -> Result<(), Error> {
    let key = |(usage, key): &(&'static str, &Value)| CrossSigningKey { usage, key: (*key).clone() };
    accounts.set_cross_signing(TENANT, user, &keys.iter().map(key).collect::<Vec<_>>(), proven).await
}

/// A key with which tests sign, by its public half.
struct Key {
    secret: SigningKey,
    public: String,
}

impl Key {
    fn new(seed: u8) -> Self {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let public = STANDARD_NO_PAD.encode(secret.verifying_key().as_bytes());
        Self { secret, public }
    }

    /// As a cross-signing key.
    fn of(&self, user: &UserId, usage: &str) -> Value {
        json!({"user_id": user, "usage": [usage], "keys": {self.id(): self.public}})
    }

    fn id(&self) -> String {
        format!("ed25519:{}", self.public)
    }

    /// The keys of a device that has this one.
    fn of_device(&self, user: &UserId, device: &str) -> Value {
        json!({"user_id": user, "device_id": device, "keys": {format!("ed25519:{device}"): self.public}})
    }

    /// The object with one more signature, under the key's name (or another one).
    fn sign(&self, mut object: Value, signer: &UserId, id: Option<&str>) -> Value {
        let mut bytes: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
        bytes.remove("signatures");
        let signature = self.secret.sign(serde_json::to_string(&bytes).unwrap().as_bytes());
        let id = id.map_or_else(|| self.id(), |device| format!("ed25519:{device}"));
        object["signatures"][signer.as_str()][id] = STANDARD_NO_PAD.encode(signature.to_bytes()).into();
        object
    }
}

/// A user with a device, whose keys these are, and cross-signing keys: master, for oneself, for others.
async fn with_keys(accounts: &Accounts, user: &UserId, seed: u8) -> (Session, [Key; 4]) {
    let session = registered(accounts, user).await;
    let keys @ [device, master, own, others] = &[0, 1, 2, 3].map(|n| Key::new(seed + n));
    let of_device = device.of_device(user, session.device_id.as_str());
    accounts.set_device_keys(session.device(), of_device.to_string().into_bytes()).await.unwrap();
    let signed = |key: &Key, usage| master.sign(key.of(user, usage), user, None);
    let (own, others) = (signed(own, "self_signing"), signed(others, "user_signing"));
    let all = [("master", &master.of(user, "master")), ("self_signing", &own), ("user_signing", &others)];
    set(accounts, user, &all, false).await.unwrap();
    (session, keys.each_ref().map(|key| Key { secret: key.secret.clone(), public: key.public.clone() }))
}

#[tokio::test]
async fn signatures_of_several_devices_stand_side_by_side_and_only_who_may_sees_them() {
    let accounts = accounts().await;
    let (a, b, c) = (user_id!("@a:b"), user_id!("@b:b"), user_id!("@c:b"));
    let (first, [first_key, master, ..]) = with_keys(&accounts, a, 10).await;
    let (_, [.., of_b]) = with_keys(&accounts, b, 20).await;
    registered(&accounts, c).await;
    let (_, second) = logged_in(&accounts, TENANT, a, NewDevice::default()).await;
    let second_key = Key::new(30);
    let keys = second_key.of_device(a, second.device_id.as_str()).to_string().into_bytes();
    accounts.set_device_keys(second.device(), keys).await.unwrap();
    let plain = master.of(a, "master");
    let mut own = json!({});
    for (key, session) in [(&first_key, &first), (&second_key, &second)] {
        let signed = key.sign(plain.clone(), a, Some(session.device_id.as_str()));
        let made = (master.public.clone(), signed.clone());
        assert!(accounts.add_signatures(TENANT, a, a, vec![made]).await.unwrap().is_empty());
        own.as_object_mut().unwrap().extend(signed["signatures"]["@a:b"].as_object().unwrap().clone());
    }
    let signed = of_b.sign(plain.clone(), b, None);
    let made = (master.public.clone(), signed.clone());
    assert!(accounts.add_signatures(TENANT, a, b, vec![made]).await.unwrap().is_empty());
    for (viewer, of_b) in [(a, &Value::Null), (b, &signed["signatures"]["@b:b"]), (c, &Value::Null)] {
        let seen = accounts.cross_signing(TENANT, a, "master", viewer).await.unwrap().unwrap();
        assert_eq!((&seen["signatures"][a.as_str()], &seen["signatures"][b.as_str()]), (&own, of_b), "{viewer}");
    }
}

#[tokio::test]
async fn each_signature_is_taken_or_refused_for_itself() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let (session, [device_key, master, own, for_others]) = with_keys(&accounts, a, 10).await;
    let (_, [_, _, _, of_b]) = with_keys(&accounts, b, 20).await;
    let device = session.device_id.as_str();
    let (keys, plain) = (device_key.of_device(a, device), master.of(a, "master"));
    let add = async |signer, name: &str, object: &Value| {
        accounts.add_signatures(TENANT, a, signer, vec![(name.to_owned(), object.clone())]).await.unwrap()
    };
    for (signer, name, object) in [
        (b, device, of_b.sign(keys.clone(), b, None)),
        (a, "NONE", own.sign(keys.clone(), a, None)),
        (a, device, own.sign(Key::new(99).of_device(a, device), a, None)),
    ] {
        let failed = add(signer, name, &object).await;
        assert!(matches!(&*failed, [(_, Error::Invalid(_) | Error::NotSignable)]), "{signer} {name} {object}");
    }
    let wrong_id = own.id();
    let wrong_id = wrong_id.strip_prefix("ed25519:");
    let public = master.public.as_str();
    for (signer, name, object) in [
        // None; by whom it isn't; by a key that may not; under another's name; for another object.
        (a, device, keys.clone()),
        (a, device, own.sign(keys.clone(), b, None)),
        (a, device, for_others.sign(keys.clone(), a, None)),
        (a, device, device_key.sign(keys.clone(), a, Some(device))),
        (a, device, for_others.sign(keys.clone(), a, wrong_id)),
        (a, public, own.sign(plain.clone(), a, None)),
        (a, public, own.sign(plain.clone(), a, Some(device))),
        (b, public, of_b.sign(plain.clone(), b, Some("NONE"))),
        (b, public, own.sign(plain.clone(), b, Some(&of_b.public))),
    ] {
        let failed = add(signer, name, &object).await;
        assert!(matches!(&*failed, [(_, Error::InvalidSignature(_))]), "{signer} {name} {object} {failed:?}");
    }
    // One bad signature takes no good one with it, and one by a key that may not isn't kept beside one that may.
    let (signed, cross) = (own.sign(keys, a, None), device_key.sign(plain, a, Some(device)));
    let some = vec![
        ("NONE".to_owned(), signed.clone()),
        (device.to_owned(), for_others.sign(signed.clone(), a, None)),
        (public.to_owned(), cross.clone()),
    ];
    let failed = accounts.add_signatures(TENANT, a, a, some).await.unwrap();
    assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["NONE"]);
    let shown = accounts.device_keys(TENANT, a).await.unwrap().remove(0).1;
    assert_eq!(Value::Object(shown), signed);
    assert_eq!(accounts.cross_signing(TENANT, a, "master", b).await.unwrap(), Some(cross));
}

#[tokio::test]
async fn keys_that_the_master_key_did_not_sign_are_refused() {
    let accounts = accounts().await;
    let a = user_id!("@a:b");
    registered(&accounts, a).await;
    let (master, other) = (Key::new(1), Key::new(2));
    let plain = master.of(a, "master");
    for usage in ["self_signing", "user_signing"] {
        let own = Key::new(3).of(a, usage);
        for bad in [own.clone(), other.sign(own.clone(), a, None), other.sign(own.clone(), a, Some(&master.public))] {
            let refused = set(&accounts, a, &[("master", &plain), (usage, &bad)], false).await;
            assert!(matches!(refused, Err(Error::InvalidSignature(_))), "{bad}");
        }
        assert_eq!(accounts.cross_signing(TENANT, a, usage, a).await.unwrap(), None);
    }
    assert_eq!(accounts.cross_signing(TENANT, a, "master", a).await.unwrap(), None, "all or nothing");
    let own = master.sign(other.of(a, "self_signing"), a, None);
    set(&accounts, a, &[("master", &plain), ("self_signing", &own)], false).await.unwrap();
    // Without a master key in the upload the one that stands counts.
    let of_others = master.sign(Key::new(4).of(a, "user_signing"), a, None);
    set(&accounts, a, &[("user_signing", &of_others)], true).await.unwrap();
    let by_another = other.sign(Key::new(5).of(a, "user_signing"), a, None);
    let refused = set(&accounts, a, &[("user_signing", &by_another)], true).await;
    assert!(matches!(refused, Err(Error::InvalidSignature(_))));
}

#[tokio::test]
async fn the_first_keys_need_no_proof_and_others_do() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    registered(&accounts, a).await;
    let key = Key::new(1);
    let signed = |seed, usage| key.sign(Key::new(seed).of(a, usage), a, None);
    let (master, own) = (key.of(a, "master"), signed(2, "self_signing"));
    assert!(matches!(set(&accounts, a, &[("self_signing", &own)], false).await, Err(Error::NoMasterKey)));
    for (usage, key) in [("master", key.of(b, "master")), ("master", key.of(a, "user_signing")), ("master", json!([]))]
    {
        assert!(matches!(set(&accounts, a, &[(usage, &key)], false).await, Err(Error::Invalid(_))), "{key}");
    }
    // Of two first ones at once one is a replacement.
    let second = Key::new(9).of(a, "master");
    let (one, two) = ([("master", &master), ("self_signing", &own)], [("master", &second)]);
    let (one, two) = tokio::join!(set(&accounts, a, &one, false), set(&accounts, a, &two, false));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    set(&accounts, a, &[("master", &master), ("self_signing", &own)], true).await.unwrap();
    set(&accounts, a, &[("master", &master), ("self_signing", &own)], false).await.unwrap();
    let other = signed(3, "self_signing");
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
    let [device_key, master, own] = [1, 2, 3].map(Key::new);
    let keys = device_key.of_device(a, device);
    let (plain, signed) = (master.of(a, "master"), master.sign(own.of(a, "self_signing"), a, None));
    let all = async || {
        accounts.set_device_keys(session.device(), keys.to_string().into_bytes()).await.unwrap();
        set(&accounts, a, &[("master", &plain), ("self_signing", &signed)], false).await.unwrap();
        let signature = (device.to_owned(), own.sign(keys.clone(), a, None));
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

#[tokio::test]
async fn what_stands_already_is_told_by_who_asks_for_it_again_if_nobody_was_told() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let (session, [device_key, master, own, _]) = with_keys(&accounts, a, 10).await;
    let (_, [.., for_others]) = with_keys(&accounts, b, 20).await;
    let (device, name) = (session.device_id.as_str(), Some("name".to_owned()));
    let keys = device_key.of_device(a, device);
    let plain = master.of(a, "master");
    let by_own = (device.to_owned(), own.sign(keys.clone(), a, None));
    let by_device = (master.public.clone(), device_key.sign(plain.clone(), a, Some(device)));
    accounts.rename_device(TENANT, a, &session.device_id, name.clone()).await.unwrap();
    for signature in [&by_own, &by_device] {
        assert!(accounts.add_signatures(TENANT, a, a, vec![signature.clone()]).await.unwrap().is_empty());
    }
    for again in 0..6 {
        // As somebody's row leaves it who died then.
        let owed = vec![jobs::owe(jobs::LISTS)];
        accounts.change_of(session.device(), owed).await.unwrap();
        let before = accounts.device_lists_position(TENANT).await.unwrap();
        match again {
            0 => accounts.set_device_keys(session.device(), keys.to_string().into_bytes()).await.unwrap(),
            1 => set(&accounts, a, &[("master", &plain)], false).await.unwrap(),
            2 => accounts.rename_device(TENANT, a, &session.device_id, name.clone()).await.unwrap(),
            3 => accounts.remove_devices(TENANT, a, &[device_id!("GONE").to_owned()]).await.unwrap(),
            4 => drop(accounts.add_signatures(TENANT, a, a, vec![by_own.clone()]).await.unwrap()),
            _ => drop(accounts.add_signatures(TENANT, a, a, vec![by_device.clone()]).await.unwrap()),
        }
        let (users, _) = accounts.device_lists_after(TENANT, before).await.unwrap().unwrap();
        assert_eq!(users.into_keys().collect::<Vec<_>>(), [a], "{again}");
        assert!(jobs::owed(&*accounts.store, TENANT, a).await.unwrap().is_empty(), "{again}");
    }
    // And one on another's key, of which the own record says whether it was told.
    let stands = accounts.cross_signing(TENANT, a, "master", b).await.unwrap().unwrap();
    let before = accounts.device_lists_position(TENANT).await.unwrap();
    let object = for_others.sign(stands, b, None);
    assert!(accounts.add_signature(TENANT, a, b, (&master.public, object.clone())).await.unwrap());
    for _ in 0..2 {
        let again = vec![(master.public.clone(), object.clone())];
        assert!(accounts.add_signatures(TENANT, a, b, again).await.unwrap().is_empty());
        assert_eq!(accounts.device_lists_position(TENANT).await.unwrap(), before.next());
    }
}

#[tokio::test]
async fn keys_that_are_replaced_leave_no_signatures_behind() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let (session, [device, ..]) = with_keys(&accounts, a, 10).await;
    with_keys(&accounts, b, 20).await;
    let name = session.device_id.as_str();
    let keys = device.of_device(a, name);
    for n in 30..50 {
        let [master, own, of_b] = [n, n + 50, n + 100].map(Key::new);
        let plain = master.of(a, "master");
        let signed = master.sign(own.of(a, "self_signing"), a, None);
        set(&accounts, a, &[("master", &plain), ("self_signing", &signed)], true).await.unwrap();
        let master_of_b = accounts.cross_signing(TENANT, b, "master", b).await.unwrap().unwrap();
        let for_others = Key::new(21).sign(of_b.of(b, "user_signing"), b, None);
        set(&accounts, b, &[("master", &master_of_b), ("user_signing", &for_others)], true).await.unwrap();
        let by_a = vec![
            (name.to_owned(), own.sign(keys.clone(), a, None)),
            (master.public.clone(), device.sign(plain.clone(), a, Some(name))),
        ];
        assert!(accounts.add_signatures(TENANT, a, a, by_a).await.unwrap().is_empty());
        let by_b = vec![(master.public.clone(), of_b.sign(plain.clone(), b, None))];
        assert!(accounts.add_signatures(TENANT, a, b, by_b).await.unwrap().is_empty());
        let seen = accounts.cross_signing(TENANT, a, "master", b).await.unwrap().unwrap();
        assert!(!seen["signatures"][a.as_str()][format!("ed25519:{name}")].is_null());
        assert!(!seen["signatures"][b.as_str()][of_b.id()].is_null());
    }
    // One entry for each whose key was signed, with who signed it.
    for signer in [a, b] {
        let read = record::entries(&*accounts.store, TENANT, signer, record::kind::SIGNATURES, None).await.unwrap();
        assert_eq!((read.len(), &*read[0].scope), (1, a.as_str()), "{signer}");
    }
    let (_, keys) = accounts.device_keys(TENANT, a).await.unwrap().remove(0);
    assert_eq!(keys["signatures"][a.as_str()].as_object().unwrap().len(), 1, "the one by the key of now");
}

#[tokio::test]
async fn whose_key_others_sign_keeps_nothing_of_it_and_they_no_more_than_they_may() {
    let accounts = accounts().await;
    let a = user_id!("@a:b");
    let (_, [_, master, ..]) = with_keys(&accounts, a, 10).await;
    let stands = accounts.cross_signing(TENANT, a, "master", a).await.unwrap().unwrap();
    let size = async |user_id: OwnedUserId| {
        let entries =
            record::entries(&*accounts.store, TENANT, &user_id, record::kind::SIGNATURES, None).await.unwrap();
        let jobs = record::entries(&*accounts.store, TENANT, &user_id, record::kind::JOB, None).await.unwrap();
        (entries.len(), jobs.len())
    };
    let before = size(a.to_owned()).await;
    for n in 0..5_u8 {
        let signer = OwnedUserId::try_from(format!("@signer{n}:b")).unwrap();
        let (_, [.., for_others]) = with_keys(&accounts, &signer, 100 + 10 * n).await;
        let signature = (master.public.clone(), for_others.sign(stands.clone(), &signer, None));
        let told = accounts.device_lists_position(TENANT).await.unwrap();
        let failed = accounts.add_signatures(TENANT, a, &signer, vec![signature.clone()]).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        // Told once, also by whoever looks what may not have been.
        accounts.tell_all_signed(TENANT, &signer).await.unwrap();
        assert_eq!(accounts.device_lists_position(TENANT).await.unwrap(), told.next());
        let seen = accounts.cross_signing(TENANT, a, "master", &signer).await.unwrap().unwrap();
        assert!(!seen["signatures"][signer.as_str()][for_others.id()].is_null());
        assert_eq!((size(signer.clone()).await.0, size(a.to_owned()).await), (1, before));
    }
    let (_, [.., for_others]) = with_keys(&accounts, user_id!("@full:b"), 200).await;
    let full = user_id!("@full:b");
    for size in [60_000, 100] {
        let mut kept = 0;
        while accounts.set_account_data(TENANT, full, ("", &format!("{size}/{kept}")), vec![b'1'; size]).await.is_ok() {
            kept += 1;
            assert!(kept < 1000, "there is an end");
        }
    }
    let signature = (master.public.clone(), for_others.sign(stands.clone(), full, None));
    let failed = accounts.add_signatures(TENANT, a, full, vec![signature]).await.unwrap();
    assert!(matches!(&failed[..], [(_, Error::Full)]), "{failed:?}");
}

#[tokio::test]
async fn a_signature_of_which_nobody_was_told_is_told_by_who_finds_it() {
    let accounts = accounts().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let (_, [_, master, ..]) = with_keys(&accounts, a, 10).await;
    let (_, [.., for_others]) = with_keys(&accounts, b, 20).await;
    let stands = accounts.cross_signing(TENANT, a, "master", b).await.unwrap().unwrap();
    let told = accounts.device_lists_position(TENANT).await.unwrap();
    // The process ends after the row and before anything else.
    let object = for_others.sign(stands, b, None);
    assert!(accounts.add_signature(TENANT, a, b, (&master.public, object)).await.unwrap());
    assert_eq!(accounts.device_lists_position(TENANT).await.unwrap(), told);
    assert!(accounts.settle_all(&FakeRooms::default()).await);
    let (users, _) = accounts.device_lists_after(TENANT, told).await.unwrap().unwrap();
    assert_eq!(users.into_keys().collect::<Vec<_>>(), [a.to_owned()]);
}

#[tokio::test]
async fn a_key_is_named_by_its_public_half() {
    let accounts = accounts().await;
    let a = user_id!("@a:b");
    registered(&accounts, a).await;
    let public = Key::new(1).public;
    for id in [format!("ed25519:{}", "x".repeat(60_000)), format!("curve25519:{public}"), public.clone()] {
        let key = json!({"user_id": a, "usage": ["master"], "keys": {id: public}});
        assert!(matches!(set(&accounts, a, &[("master", &key)], false).await, Err(Error::Invalid(_))));
    }
}
