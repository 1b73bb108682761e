//! Devices and tokens.

use super::*;

#[tokio::test]
async fn tokens_end_with_their_device_and_nothing_crosses_tenants() {
    let accounts = accounts().await;
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    let session = registered(&accounts, user).await;
    let resolved = accounts.resolve(TENANT, server, &session.access_token).await.unwrap();
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
    accounts.register(TENANT, user, None, false).await.unwrap();
    let first = accounts.log_in(TENANT, user, NewDevice { refresh: true, ..NewDevice::default() }).await.unwrap();
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
        accounts.register(TENANT, user, None, false).await.unwrap();
        let first = accounts.log_in(TENANT, user, NewDevice { refresh: true, ..NewDevice::default() }).await.unwrap();
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
        accounts.register(TENANT, user, None, false).await.unwrap();
        let first = accounts.log_in(TENANT, user, NewDevice { refresh: true, ..NewDevice::default() }).await.unwrap();
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
    let (user, server) = (user_id!("@a:b"), server_name!("b"));
    accounts.register(TENANT, user, None, false).await.unwrap();
    let device = device_id!("D");
    let new = |name: &str| NewDevice {
        device_id: Some(device.to_owned()),
        display_name: Some(name.into()),
        ..NewDevice::default()
    };
    let first = accounts.log_in(TENANT, user, new("first")).await.unwrap();
    accounts.set_device_keys(TENANT, user, device, b"{\"a\":1}".to_vec()).await.unwrap();
    let key = OneTimeKey { algorithm: "x".into(), key_id: "1".into(), key: b"1".to_vec() };
    accounts.upload_one_time_keys(TENANT, user, device, vec![key.clone()]).await.unwrap();
    let fallback = OneTimeKey { algorithm: "only-fallback".into(), ..key };
    accounts.set_fallback_keys(TENANT, user, device, vec![fallback]).await.unwrap();
    let message = Message { user_id: user.to_owned(), device_id: None, event: b"{}".to_vec() };
    accounts.send_to_device(TENANT, (user, device, "1"), vec![message]).await.unwrap();
    let start = Position::new(Life::FIRST, Seq::ZERO);

    let again = accounts.log_in(TENANT, user, new("second")).await.unwrap();
    assert!(accounts.resolve(TENANT, server, &first.access_token).await.is_err());
    accounts.resolve(TENANT, server, &again.access_token).await.unwrap();
    assert_eq!(accounts.devices(TENANT, user).await.unwrap()[0].display_name.as_deref(), Some("first"));
    assert_eq!(accounts.device_keys(TENANT, user).await.unwrap().len(), 1);
    let (counts, unused) = accounts.key_counts(TENANT, user, device).await.unwrap();
    assert_eq!((counts["x"], &*unused), (1, &["only-fallback".to_owned()][..]));
    assert_eq!(accounts.inbox_after(TENANT, (user, device), start).await.unwrap().0.len(), 1);

    accounts.remove_devices(TENANT, user, &[device.to_owned(), device_id!("NONE").to_owned()]).await.unwrap();
    accounts.log_in(TENANT, user, new("third")).await.unwrap();
    assert_eq!(accounts.devices(TENANT, user).await.unwrap()[0].display_name.as_deref(), Some("third"));
    assert!(accounts.device_keys(TENANT, user).await.unwrap().is_empty());
    assert_eq!(accounts.key_counts(TENANT, user, device).await.unwrap(), Default::default());
    for algorithm in ["x", "only-fallback"] {
        assert_eq!(accounts.claim_one_time_key(TENANT, user, device, algorithm).await.unwrap(), None);
    }
    assert!(accounts.inbox_after(TENANT, (user, device), start).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn two_tenants_with_the_same_names_share_nothing() {
    let accounts = accounts().await;
    let (other, user, device, server) = (TenantId::new(2), user_id!("@a:b"), device_id!("D"), server_name!("b"));
    let mut sessions = Vec::new();
    for tenant in [TENANT, other] {
        accounts.register(tenant, user, Some(format!("password of {tenant:?}")), false).await.unwrap();
        let new = NewDevice { device_id: Some(device.to_owned()), ..NewDevice::default() };
        sessions.push(accounts.log_in(tenant, user, new).await.unwrap());
    }
    assert!(accounts.check_password(other, user, format!("password of {TENANT:?}")).await.is_err());
    assert!(accounts.resolve(other, server, &sessions[0].access_token).await.is_err());
    accounts.set_account_data(TENANT, user, ("", "t"), b"1".to_vec()).await.unwrap();
    accounts.set_profile(TENANT, user, "displayname", Some("first".into())).await.unwrap();
    accounts.set_device_keys(TENANT, user, device, b"{}".to_vec()).await.unwrap();
    let key = OneTimeKey { algorithm: "x".into(), key_id: "1".into(), key: b"1".to_vec() };
    accounts.upload_one_time_keys(TENANT, user, device, vec![key]).await.unwrap();
    // The same transaction in both: each has its own message.
    for (tenant, text) in [(TENANT, "one"), (other, "two")] {
        let message = Message { user_id: user.to_owned(), device_id: Some(device.to_owned()), event: text.into() };
        accounts.send_to_device(tenant, (user, device, "txn"), vec![message]).await.unwrap();
    }
    assert_eq!(accounts.account_data(other, user, "", "t").await.unwrap(), None);
    assert_eq!(accounts.profile(other, user, "displayname").await.unwrap().as_deref(), Some("a"));
    assert!(accounts.device_keys(other, user).await.unwrap().is_empty());
    assert_eq!(accounts.claim_one_time_key(other, user, device, "x").await.unwrap(), None);
    assert_eq!(accounts.device_lists_position(other).await.unwrap(), Seq::ZERO);
    let start = Position::new(Life::FIRST, Seq::ZERO);
    assert_eq!(accounts.inbox_after(other, (user, device), start).await.unwrap().0, ["two"]);
    accounts.remove_devices(TENANT, user, &[device.to_owned()]).await.unwrap();
    accounts.resolve(other, server, &sessions[1].access_token).await.unwrap();
}
