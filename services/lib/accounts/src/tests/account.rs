//! Accounts: registration, passwords, the end.

use super::*;
use crate::jobs;

#[tokio::test]
async fn of_a_hundred_registrations_of_one_name_one_wins() {
    let accounts = accounts().await;
    let tries = (0..100).map(|_| {
        let accounts = Arc::clone(&accounts);
        async move { accounts.register(TENANT, user_id!("@a:b"), NewAccount::default()).await }
    });
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(None) | Err(Error::UserInUse))));
}

#[tokio::test]
async fn a_registration_logs_in_with_the_same_row() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let new = NewAccount { device: Some(NewDevice::default()), ..NewAccount::default() };
    let logged_in = accounts.register(TENANT, user, new).await.unwrap().unwrap();
    accounts.resolve(TENANT, server_name!("b"), &logged_in.access_token).await.unwrap();
    assert_eq!(accounts.account_data_now(TENANT, user).await.unwrap().1, Seq::new(1));
}

#[tokio::test]
async fn a_new_password_ends_the_other_devices_and_the_old_password() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let kept = registered(&accounts, user).await;
    let (other, _) = logged_in(&accounts, TENANT, user, NewDevice::default()).await;
    accounts.set_password(TENANT, user, "new".into(), Some(&kept.device_id)).await.unwrap();
    let devices = accounts.devices(TENANT, user).await.unwrap();
    assert_eq!(devices.into_iter().map(|device| device.device_id).collect::<Vec<_>>(), [kept.device_id]);
    assert!(accounts.resolve(TENANT, server_name!("b"), &other.access_token).await.is_err());
    assert!(matches!(accounts.check_password(TENANT, user, "password".into()).await, Err(Error::WrongPassword)));
    accounts.check_password(TENANT, user, "new".into()).await.unwrap();
}

#[tokio::test]
async fn a_deactivated_account_is_out_everywhere_and_keeps_its_name() {
    let (accounts, rooms) = (accounts().await, FakeRooms::default());
    let user = user_id!("@a:b");
    registered(&accounts, user).await;
    accounts.deactivate(TENANT, user).await.unwrap();
    // Asked for again, perhaps since the answer was lost.
    accounts.deactivate(TENANT, user).await.unwrap();
    assert!(accounts.devices(TENANT, user).await.unwrap().is_empty());
    assert!(matches!(accounts.check_password(TENANT, user, "password".into()).await, Err(Error::Deactivated)));
    assert!(matches!(
        accounts.log_in(TENANT, user, "password".into(), NewDevice::default()).await,
        Err(Error::Deactivated)
    ));
    let again = accounts.register(TENANT, user, NewAccount::default()).await;
    assert!(matches!(again, Err(Error::UserInUse)));
    assert!(accounts.settle_all(&rooms).await);
    assert_eq!(*rooms.told.lock(), ["leave @a:b"]);
}

#[tokio::test]
async fn who_is_logged_out_with_all_others_is_out_from_that_row_on_though_the_process_dies() {
    let (world, rooms, server) = (World::new(), FakeRooms::default(), server_name!("b"));
    let (user, ended) = (user_id!("@a:b"), user_id!("@gone:b"));
    let named = |id: &str| NewDevice { device_id: Some(id.into()), refresh: true, ..NewDevice::default() };
    let (kept, other, gone, first_life) = {
        let accounts = world.start(1).await.accounts;
        let kept = registered(&accounts, user).await;
        let (other, session) = logged_in(&accounts, TENANT, user, named("OTHER")).await;
        accounts.set_device_keys(session.device(), b"{}".to_vec()).await.unwrap();
        new_account(&accounts, TENANT, ended, "password").await;
        let (gone, _) = logged_in(&accounts, TENANT, ended, named("D")).await;
        // Nothing of what these owe is done by this process.
        accounts.set_password(TENANT, user, "new".into(), Some(&kept.device_id)).await.unwrap();
        accounts.deactivate(TENANT, ended).await.unwrap();
        (kept, other, gone, session.life)
    };
    let process = world.start(2).await;
    process.recover().await;
    let accounts = &process.accounts;
    for tokens in [&other, &gone] {
        assert!(accounts.resolve(TENANT, server, &tokens.access_token).await.is_err());
        assert!(accounts.refresh(TENANT, server, tokens.refresh_token.as_ref().unwrap()).await.is_err());
    }
    assert!(accounts.devices(TENANT, ended).await.unwrap().is_empty());
    // A device of that id that logs in before the rest is done begins with nothing, and stays.
    let (_, again) = logged_in(accounts, TENANT, user, named("OTHER")).await;
    assert_ne!(again.life, first_life, "another one");
    assert!(accounts.device_keys(TENANT, user).await.unwrap().is_empty());
    accounts.set_device_keys(again.device(), b"{}".to_vec()).await.unwrap();
    let before = accounts.device_lists_position(TENANT).await.unwrap();
    assert!(accounts.settle_all(&rooms).await);
    let stands = |user| crate::record::entries(&*accounts.store, TENANT, user, crate::record::kind::DEVICE, None);
    let shelf = crate::shelf::Shelf::of(stands(ended).await.unwrap().first()).unwrap();
    assert_eq!(shelf.living().count(), 0, "its entry says so, too");
    assert!(accounts.device_lists_after(TENANT, before).await.unwrap().unwrap().0.contains_key(ended));
    let ids = accounts.devices(TENANT, user).await.unwrap().into_iter().map(|device| device.device_id);
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>(), [kept.device_id, again.device_id].into());
    assert_eq!(accounts.device_keys(TENANT, user).await.unwrap().len(), 1);
}

#[tokio::test]
async fn that_all_devices_were_logged_out_is_told_before_it_is_acknowledged_and_owed_by_the_row_that_does_it() {
    let accounts = accounts().await;
    let (user, ended) = (user_id!("@a:b"), user_id!("@gone:b"));
    let kept = registered(&accounts, user).await;
    logged_in(&accounts, TENANT, user, NewDevice { device_id: Some("OTHER".into()), ..NewDevice::default() }).await;
    registered(&accounts, ended).await;
    let at = async |user| accounts.account_data_now(TENANT, user).await.unwrap().1;
    // Whether the row of a user's record after that one owes it.
    let owes = async |user, after| {
        let (changes, ..) = crate::record::changes_after(&*accounts.store, TENANT, user, after).await.unwrap();
        let next = changes.iter().position(|change| change.key == jobs::LISTS && change.value.is_some());
        let done = changes.iter().position(|change| change.key == jobs::LISTS && change.value.is_none());
        next.is_some_and(|next| done.is_none_or(|done| next < done))
    };
    for user in [user, ended] {
        let (before, row) = (accounts.device_lists_position(TENANT).await.unwrap(), at(user).await);
        if user == ended {
            accounts.deactivate(TENANT, user).await.unwrap();
        } else {
            accounts.set_password(TENANT, user, "new".into(), Some(&kept.device_id)).await.unwrap();
        }
        let (users, _) = accounts.device_lists_after(TENANT, before).await.unwrap().unwrap();
        assert_eq!(users.into_keys().collect::<Vec<_>>(), [user]);
        assert!(owes(user, row).await, "{user}");
    }
    // The one that was logged out logs in again before its entries go.
    let row = at(user).await;
    logged_in(&accounts, TENANT, user, NewDevice { device_id: Some("OTHER".into()), ..NewDevice::default() }).await;
    assert!(owes(user, row).await, "its keys are gone with that");
    // That the account is at its end, and nobody was told: who asks again is answered when that is done.
    let owed = vec![jobs::owe(jobs::LISTS)];
    accounts.append(TENANT, ended, owed, Vec::new()).await.unwrap().unwrap();
    let before = accounts.device_lists_position(TENANT).await.unwrap();
    accounts.deactivate(TENANT, ended).await.unwrap();
    assert_eq!(accounts.device_lists_position(TENANT).await.unwrap(), before.next());
}

#[tokio::test]
async fn the_old_password_logs_nobody_in_that_comes_to_be_after_the_new_one() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let kept = registered(&accounts, user).await;
    // The old password was found right, and then it was changed.
    let account = accounts.account_of(TENANT, user, "password".into()).await.unwrap();
    accounts.set_password(TENANT, user, "new".into(), Some(&kept.device_id)).await.unwrap();
    let before = accounts.account_data_now(TENANT, user).await.unwrap().1;
    let late = accounts.log_in_to(TENANT, user, &account, NewDevice::default()).await;
    assert!(matches!(late, Err(Error::Stale)), "{late:?}");
    assert_eq!(accounts.account_data_now(TENANT, user).await.unwrap().1, before, "no row");
    let late = accounts.log_in(TENANT, user, "password".into(), NewDevice::default()).await;
    assert!(matches!(late, Err(Error::WrongPassword)), "{late:?}");
    accounts.log_in(TENANT, user, "new".into(), NewDevice::default()).await.unwrap();
}

#[tokio::test]
async fn a_password_is_neither_empty_nor_endless() {
    let accounts = accounts().await;
    let (user, endless) = (user_id!("@a:b"), "x".repeat(513));
    for (password, weak) in [(String::new(), true), (endless.clone(), false)] {
        let new = NewAccount { password: Some(password.clone()), ..NewAccount::default() };
        let refused = accounts.register(TENANT, user, new).await.unwrap_err();
        assert!(if weak { matches!(refused, Error::WeakPassword) } else { matches!(refused, Error::Invalid(_)) });
        assert!(!accounts.exists(TENANT, user).await.unwrap());
    }
    new_account(&accounts, TENANT, user, "password").await;
    for password in [String::new(), endless] {
        assert!(accounts.set_password(TENANT, user, password.clone(), None).await.is_err());
        let checked = accounts.check_password(TENANT, user, password).await;
        assert!(matches!(checked, Err(Error::WrongPassword)), "{checked:?}");
    }
}
