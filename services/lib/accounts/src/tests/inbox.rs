//! Messages to devices.

use super::*;

#[tokio::test]
async fn messages_arrive_once_in_order_at_devices_that_exist() {
    let accounts = accounts().await;
    let (user, from) = (user_id!("@a:b"), (user_id!("@s:b"), device_id!("S")));
    let device = registered(&accounts, user).await.device_id;
    let message = |text: &str| Message { user_id: user.to_owned(), device_id: None, event: text.into() };
    for (txn, text) in [("1", "one"), ("2", "two"), ("1", "one")] {
        accounts.send_to_device(TENANT, (from.0, from.1, txn), vec![message(text)]).await.unwrap();
    }
    let unknown = Message { device_id: Some("X".into()), ..message("lost") };
    accounts.send_to_device(TENANT, (from.0, from.1, "3"), vec![unknown]).await.unwrap();
    let start = Position::new(Life::FIRST, Seq::ZERO);
    let (events, at) = accounts.inbox_after(TENANT, (user, &device), start).await.unwrap();
    assert_eq!(events, ["one", "two"]);
    assert_eq!(accounts.inbox_after(TENANT, (user, &device), at).await.unwrap(), (vec![], at));
}
