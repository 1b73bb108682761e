//! Accounts: registration, passwords, the end.

use super::*;

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
    let long = accounts.set_password(TENANT, user, "x".repeat(513), None).await;
    assert!(matches!(long, Err(Error::TooLarge(_))));
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
    assert!(matches!(accounts.log_in(TENANT, user, NewDevice::default()).await, Err(Error::Deactivated)));
    let again = accounts.register(TENANT, user, NewAccount::default()).await;
    assert!(matches!(again, Err(Error::UserInUse)));
    assert!(accounts.settle_all(&rooms).await);
    assert_eq!(*rooms.told.lock(), ["leave @a:b"]);
}
