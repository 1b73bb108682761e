//! Devices and tokens.

use super::*;

#[tokio::test]
async fn tokens_end_with_their_device_and_nothing_crosses_tenants() {
    let accounts = accounts().await;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    new_account(&accounts, TENANT, user, "password").await;
    let (session, resolved) = logged_in(&accounts, TENANT, user, NewDevice::default()).await;
    assert_eq!((&*resolved.user_id, &resolved.device_id), (user, &session.device_id));
    assert!(accounts.resolve(TenantId::new(2), server, &session.access_token).await.is_err());
    assert!(accounts.resolve(TENANT, server_name!("c"), &session.access_token).await.is_err());
    assert!(accounts.resolve(TENANT, server, "plt.a.b.c").await.is_err());
    accounts.check_password(TENANT, user, "password".into()).await.unwrap();
    assert!(matches!(accounts.check_password(TENANT, user, "other".into()).await, Err(Error::WrongPassword)));
    assert!(matches!(
        accounts.check_password(TENANT, user_id!("@x:b"), "password".into()).await,
        Err(Error::WrongPassword)
    ));
    accounts.remove_devices(TENANT, user, &[session.device_id]).await.unwrap();
    assert!(matches!(accounts.resolve(TENANT, server, &session.access_token).await, Err(Error::UnknownToken(false))));
}

#[tokio::test]
async fn a_refresh_keeps_the_old_tokens_until_a_new_one_is_used() {
    let accounts = accounts().await;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    new_account(&accounts, TENANT, user, "password").await;
    let first = accounts
        .log_in(TENANT, user, "password".into(), NewDevice { refresh: true, ..NewDevice::default() })
        .await
        .unwrap();
    let token = first.refresh_token.unwrap();
    accounts.refresh(TENANT, server, &token).await.unwrap();
    // The answer was lost: the client asks again, and still has its old token.
    accounts.resolve(TENANT, server, &first.access_token).await.unwrap();
    let second = accounts.refresh(TENANT, server, &token).await.unwrap();
    accounts.resolve(TENANT, server, &second.access_token).await.unwrap();
    assert!(accounts.resolve(TENANT, server, &first.access_token).await.is_err());
    assert!(accounts.refresh(TENANT, server, &token).await.is_err());
}

#[tokio::test]
async fn what_runs_beside_a_logout_does_not_undo_it() {
    for round in 0..50 {
        let accounts = accounts().await;
        let (user, server) = (user_id!("@a:b"), server_name!("b"));
        new_account(&accounts, TENANT, user, "password").await;
        let first = accounts
            .log_in(TENANT, user, "password".into(), NewDevice { refresh: true, ..NewDevice::default() })
            .await
            .unwrap();
        let token = first.refresh_token.clone().unwrap();
        let second = accounts.refresh(TENANT, server, &token).await.unwrap();
        let device = [first.device_id.clone()];
        // In each round the others are somewhat further when the logout begins.
        let logout = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            accounts.remove_devices(TENANT, user, &device).await.unwrap();
        };
        let ((), refreshed, ..) = tokio::join!(
            logout,
            accounts.refresh(TENANT, server, &token),
            accounts.rename_device(TENANT, user, &first.device_id, Some("other".into())),
            accounts.resolve(TENANT, server, &second.access_token),
        );
        assert!(accounts.devices(TENANT, user).await.unwrap().is_empty(), "round {round}");
        let tokens = [Some(first.access_token), Some(second.access_token), refreshed.ok().map(|new| new.access_token)];
        for token in tokens.into_iter().flatten() {
            let resolved = accounts.resolve(TENANT, server, &token).await;
            assert!(matches!(resolved, Err(Error::UnknownToken(false))), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_rename_beside_a_refresh_loses_neither() {
    for round in 0..30 {
        let accounts = accounts().await;
        let (user, server) = (user_id!("@a:b"), server_name!("b"));
        new_account(&accounts, TENANT, user, "password").await;
        let first = accounts
            .log_in(TENANT, user, "password".into(), NewDevice { refresh: true, ..NewDevice::default() })
            .await
            .unwrap();
        let token = first.refresh_token.clone().unwrap();
        let rename = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            accounts.rename_device(TENANT, user, &first.device_id, Some("other".into())).await.unwrap();
        };
        let ((), refreshed) = tokio::join!(rename, accounts.refresh(TENANT, server, &token));
        accounts.resolve(TENANT, server, &refreshed.unwrap().access_token).await.unwrap();
        assert_eq!(accounts.devices(TENANT, user).await.unwrap()[0].display_name.as_deref(), Some("other"));
    }
}

#[tokio::test]
async fn a_device_that_logs_in_again_goes_on_and_one_made_again_begins_with_nothing() {
    let accounts = accounts().await;
    let (user, server, device) = (user_id!("@a:b"), server_name!("b"), device_id!("D"));
    new_account(&accounts, TENANT, user, "password").await;
    let new = |name: &str| NewDevice {
        device_id: Some(device.to_owned()),
        display_name: Some(name.into()),
        ..NewDevice::default()
    };
    let (first, session) = logged_in(&accounts, TENANT, user, new("first")).await;
    accounts.set_device_keys(session.device(), b"{\"a\":1}".to_vec()).await.unwrap();
    let key = OneTimeKey { algorithm: "x".into(), key_id: "1".into(), key: b"1".to_vec() };
    accounts.upload_one_time_keys(session.device(), vec![key.clone()]).await.unwrap();
    let fallback = OneTimeKey { algorithm: "only-fallback".into(), ..key.clone() };
    accounts.set_fallback_keys(session.device(), vec![fallback.clone()]).await.unwrap();
    let message = || Message { user_id: user.to_owned(), device_id: None, event: "{}".into() };
    accounts.send_to_device(session.device(), "1", vec![message()]).await.unwrap();
    let start = Position::new(Life::FIRST, Seq::ZERO);

    let (_, again) = logged_in(&accounts, TENANT, user, new("second")).await;
    assert_eq!(again, session);
    assert!(accounts.resolve(TENANT, server, &first.access_token).await.is_err());
    assert_eq!(accounts.devices(TENANT, user).await.unwrap()[0].display_name.as_deref(), Some("first"));
    assert_eq!(accounts.device_keys(TENANT, user).await.unwrap().len(), 1);
    let KeyCounts { one_time: counts, unused_fallback: unused } = accounts.key_counts(again.device()).await.unwrap();
    assert_eq!((counts["x"], &*unused), (1, &["only-fallback".to_owned()][..]));
    let (events, at) = accounts.inbox_after(again.device(), start).await.unwrap();
    assert_eq!(events.len(), 1);

    accounts.remove_devices(TENANT, user, &[device.to_owned(), device_id!("NONE").to_owned()]).await.unwrap();
    // Late writes of the session that ended: refused, or nobody's.
    assert!(matches!(accounts.set_device_keys(again.device(), b"{}".to_vec()).await, Err(Error::NoDevice)));
    let fallback = OneTimeKey { key_id: "2".into(), ..fallback };
    assert!(matches!(accounts.set_fallback_keys(again.device(), vec![fallback.clone()]).await, Err(Error::NoDevice)));
    accounts.upload_one_time_keys(again.device(), vec![key.clone()]).await.unwrap();
    assert_eq!(accounts.claim_one_time_key(TENANT, user, device, "x").await.unwrap(), None);

    let (_, third) = logged_in(&accounts, TENANT, user, new("third")).await;
    assert_ne!(third.life, again.life);
    assert!(matches!(accounts.set_fallback_keys(again.device(), vec![fallback]).await, Err(Error::NoDevice)));
    let other = OneTimeKey { algorithm: "y".into(), ..key };
    assert!(matches!(accounts.upload_one_time_keys(again.device(), vec![other]).await, Err(Error::NoDevice)));
    assert_eq!(accounts.devices(TENANT, user).await.unwrap()[0].display_name.as_deref(), Some("third"));
    assert!(accounts.device_keys(TENANT, user).await.unwrap().is_empty());
    assert_eq!(accounts.key_counts(third.device()).await.unwrap(), Default::default());
    for algorithm in ["x", "only-fallback"] {
        assert_eq!(accounts.claim_one_time_key(TENANT, user, device, algorithm).await.unwrap(), None);
    }
    // The old token is of another life: it counts from the beginning.
    assert!(accounts.inbox_after(third.device(), at).await.unwrap().0.is_empty());
    accounts.send_to_device(third.device(), "1", vec![message()]).await.unwrap();
    assert_eq!(accounts.inbox_after(third.device(), at).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn nothing_of_a_dead_device_stays_in_the_store() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let key = OneTimeKey { algorithm: "x".into(), key_id: "1".into(), key: b"1".to_vec() };
    accounts.upload_one_time_keys(session.device(), vec![key]).await.unwrap();
    let message = Message { user_id: user.to_owned(), device_id: None, event: "{}".into() };
    accounts.send_to_device(session.device(), "1", vec![message]).await.unwrap();
    accounts.remove_devices(TENANT, user, std::slice::from_ref(&session.device_id)).await.unwrap();
    assert!(accounts.settle_all(&FakeRooms::default()).await);
    let rows = |table, partition| {
        let all = polity_store::Bounds::all();
        accounts.store.scan(table, partition, all, 100, Consistency::Quorum)
    };
    use polity_store::{schema, values_of};
    let inbox = session.device().inbox().log;
    assert!(rows(&schema::LOG, values_of![TENANT, inbox, 0]).await.unwrap().rows.is_empty());
    let keys = values_of![TENANT, user.as_str(), session.device().place(), "x"];
    assert_eq!(rows(&schema::ONE_TIME_KEYS, keys).await.unwrap().rows.len(), 1, "the head only");
}

#[tokio::test]
async fn tokens_expire_softly_and_are_refreshed() {
    let world = World::new();
    let accounts = world.start(1).await.accounts;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    new_account(&accounts, TENANT, user, "password").await;
    let (first, _) = logged_in(&accounts, TENANT, user, NewDevice { refresh: true, ..NewDevice::default() }).await;
    world.clock.advance(std::time::Duration::from_millis(first.expires_in_ms.unwrap()));
    assert!(matches!(accounts.resolve(TENANT, server, &first.access_token).await, Err(Error::UnknownToken(true))));
    let second = accounts.refresh(TENANT, server, &first.refresh_token.unwrap()).await.unwrap();
    // The refresh token is used before the access token: that ends the old ones, too.
    let third = accounts.refresh(TENANT, server, &second.refresh_token.unwrap()).await.unwrap();
    assert!(matches!(accounts.resolve(TENANT, server, &first.access_token).await, Err(Error::UnknownToken(false))));
    accounts.resolve(TENANT, server, &second.access_token).await.unwrap();
    accounts.resolve(TENANT, server, &third.access_token).await.unwrap();
    assert!(accounts.resolve(TENANT, server, &second.access_token).await.is_err());
}

#[tokio::test]
async fn two_tenants_with_the_same_names_share_nothing() {
    let accounts = accounts().await;
    let (other, user, device, server) = (TenantId::new(2), user_id!("@a:b"), device_id!("D"), server_name!("b"));
    let mut sessions = Vec::new();
    for tenant in [TENANT, other] {
        new_account(&accounts, tenant, user, &format!("password of {tenant:?}")).await;
        let new = NewDevice { device_id: Some(device.to_owned()), ..NewDevice::default() };
        sessions.push(logged_in(&accounts, tenant, user, new).await);
    }
    assert!(accounts.check_password(other, user, format!("password of {TENANT:?}")).await.is_err());
    assert!(accounts.resolve(other, server, &sessions[0].0.access_token).await.is_err());
    accounts.set_account_data(TENANT, user, ("", "t"), b"1".to_vec()).await.unwrap();
    accounts.set_profile(TENANT, user, "displayname", Some("first".into())).await.unwrap();
    accounts.set_device_keys(sessions[0].1.device(), b"{}".to_vec()).await.unwrap();
    let key = OneTimeKey { algorithm: "x".into(), key_id: "1".into(), key: b"1".to_vec() };
    accounts.upload_one_time_keys(sessions[0].1.device(), vec![key]).await.unwrap();
    // The same transaction in both: each has its own message.
    for ((_, session), text) in sessions.iter().zip(["one", "two"]) {
        let message = Message { user_id: user.to_owned(), device_id: Some(device.to_owned()), event: text.into() };
        accounts.send_to_device(session.device(), "txn", vec![message]).await.unwrap();
    }
    assert_eq!(accounts.account_data(other, user, "", "t").await.unwrap(), None);
    assert_eq!(accounts.profile(other, user).await.unwrap().get("displayname").map(String::as_str), Some("a"));
    assert!(accounts.device_keys(other, user).await.unwrap().is_empty());
    assert_eq!(accounts.claim_one_time_key(other, user, device, "x").await.unwrap(), None);
    assert_eq!(accounts.device_lists_position(other).await.unwrap(), Seq::ZERO);
    let start = Position::new(Life::FIRST, Seq::ZERO);
    assert_eq!(accounts.inbox_after(sessions[1].1.device(), start).await.unwrap().0, ["two"]);
    accounts.remove_devices(TENANT, user, &[device.to_owned()]).await.unwrap();
    accounts.resolve(other, server, &sessions[1].0.access_token).await.unwrap();
}
