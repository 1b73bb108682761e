//! Messages to devices.

use super::*;

fn message(user: &UserId, text: &str) -> Message {
    Message { user_id: user.to_owned(), device_id: None, event: text.to_owned().into() }
}

const START: Position = Position::new(Life::FIRST, Seq::ZERO);

#[tokio::test]
async fn messages_arrive_once_in_order_at_devices_that_exist() {
    let accounts = accounts().await;
    let (user, sender) = (user_id!("@a:b"), registered(&accounts, user_id!("@s:b")).await);
    let session = registered(&accounts, user).await;
    for (txn, text) in [("1", "one"), ("2", "two"), ("1", "one")] {
        accounts.send_to_device(sender.device(), txn, vec![message(user, text)]).await.unwrap();
    }
    let unknown = Message { device_id: Some("X".into()), ..message(user, "lost") };
    accounts.send_to_device(sender.device(), "3", vec![unknown]).await.unwrap();
    let (events, at) = accounts.inbox_after(session.device(), START).await.unwrap();
    assert_eq!(events, ["one", "two"]);
    assert_eq!(accounts.inbox_after(session.device(), at).await.unwrap(), (vec![], at));
}

#[tokio::test]
async fn a_retry_after_a_crash_gives_no_second_message_and_a_new_login_is_another_sender() {
    let world = World::new();
    let (sender, user) = (user_id!("@s:b"), user_id!("@a:b"));
    let device = || NewDevice { device_id: Some("S".into()), ..NewDevice::default() };
    let first = world.start(1).await.accounts;
    new_account(&first, TENANT, sender, "password").await;
    let (_, from) = logged_in(&first, TENANT, sender, device()).await;
    let session = registered(&first, user).await;
    first.send_to_device(from.device(), "1", vec![message(user, "one")]).await.unwrap();
    // The process dies before the answer leaves.
    drop(first);
    let process = world.start(2).await;
    process.recover().await;
    let accounts = process.accounts;
    accounts.send_to_device(from.device(), "1", vec![message(user, "one")]).await.unwrap();
    assert_eq!(accounts.inbox_after(session.device(), START).await.unwrap().0, ["one"]);
    accounts.remove_devices(TENANT, sender, std::slice::from_ref(&from.device_id)).await.unwrap();
    let (_, from) = logged_in(&accounts, TENANT, sender, device()).await;
    accounts.send_to_device(from.device(), "1", vec![message(user, "another")]).await.unwrap();
    assert_eq!(accounts.inbox_after(session.device(), START).await.unwrap().0, ["one", "another"]);
}

#[tokio::test]
async fn what_is_too_large_is_refused_whole() {
    let accounts = accounts().await;
    let user = user_id!("@a:b");
    let session = registered(&accounts, user).await;
    let some = vec![message(user, "small"), message(user, &"x".repeat(65 * 1024))];
    let refused = accounts.send_to_device(session.device(), "1", some).await;
    assert!(matches!(refused, Err(Error::TooLarge(_))));
    assert!(accounts.inbox_after(session.device(), START).await.unwrap().0.is_empty());
}
