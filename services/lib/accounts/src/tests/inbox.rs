//! Messages to devices.

use polity_log::{Decision, Machine};

use super::*;
use crate::inbox::{Deliver, FULL, FULL_BYTES, InboxMachine, KEPT, KEPT_BYTES, Length, Order};

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

/// Rows of the first bucket of an inbox.
async fn stored(accounts: &Accounts, session: &Session) -> usize {
    let partition = polity_store::values_of![TENANT, session.device().inbox().log, 0];
    let all = polity_store::Bounds::all();
    let page = accounts.store.scan(&polity_store::schema::LOG, partition, all, 5000, Consistency::Quorum).await;
    page.unwrap().rows.iter().filter(|row| row.guards.is_none()).count()
}

#[tokio::test]
async fn what_a_device_has_goes_after_ten_minutes_and_not_before() {
    let world = World::new();
    let accounts = world.start(1).await.accounts;
    let (user, sender) = (user_id!("@a:b"), registered(&accounts, user_id!("@s:b")).await);
    let session = registered(&accounts, user).await;
    let send = async |n: u32| {
        let text = n.to_string();
        accounts.send_to_device(sender.device(), &text, vec![message(user, &text)]).await.unwrap();
    };
    let mut at = START;
    for n in 0..200 {
        send(n).await;
    }
    for expected in [100, 100, 0] {
        let (events, next) = accounts.inbox_after(session.device(), at).await.unwrap();
        assert_eq!(events.len(), expected);
        at = next;
    }
    // Acknowledged, and tried again by a sender that heard nothing.
    send(0).await;
    assert!(accounts.inbox_after(session.device(), at).await.unwrap().0.is_empty());
    assert_eq!(stored(&accounts, &session).await, 200);
    world.clock.advance(std::time::Duration::from_secs(11 * 60));
    for n in 200..260 {
        send(n).await;
    }
    let (events, next) = accounts.inbox_after(session.device(), at).await.unwrap();
    assert_eq!((events.len(), stored(&accounts, &session).await), (60, 60));
    // The same token again, and one from before all that: nothing that is there is missed.
    assert_eq!(accounts.inbox_after(session.device(), at).await.unwrap().0.len(), 60);
    assert_eq!(accounts.inbox_after(session.device(), START).await.unwrap(), (events, next));
    // The next process knows where the inbox begins, and what was sent lately.
    let process = world.start(2).await;
    process.recover().await;
    process.accounts.send_to_device(sender.device(), "259", vec![message(user, "259")]).await.unwrap();
    assert!(process.accounts.inbox_after(session.device(), next).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn an_inbox_that_nobody_reads_keeps_the_newest_and_is_full_at_last() {
    let world = World::new();
    let mut machine = InboxMachine::new(Arc::clone(&world.store), Arc::new(LocalBus::new()), world.clock.clone());
    let deliver = |n: u64, at_ms| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Order::Deliver(Deliver { id, at_ms, event: "{}".into() })
    };
    for n in 1..=FULL {
        let decision = machine.decide(&deliver(n, 1_000_000), Seq::new(n));
        assert!(matches!(decision, Decision::Append { reply: Ok(length), .. } if length.rows == n));
    }
    let next = Seq::new(FULL + 1);
    // All of them came within ten minutes: none may go, and no more is taken in.
    assert!(matches!(machine.decide(&Order::Shrink, next), Decision::Reply(Ok(Length { rows: FULL, .. }))));
    let more = machine.decide(&deliver(FULL + 1, 1_000_000), next);
    assert!(matches!(more, Decision::Reply(Ok(Length { rows: FULL, .. }))), "dropped");
    world.clock.advance(std::time::Duration::from_secs(11 * 60));
    machine.prepare(&[]).await.unwrap();
    let shrunk = machine.decide(&Order::Shrink, next);
    assert!(
        matches!(shrunk, Decision::Trim { up_to, reply: Ok(Length { rows: KEPT, .. }) } if up_to.get() == FULL - KEPT)
    );
}

#[tokio::test]
async fn a_full_inbox_loses_its_own_messages_only() {
    let world = World::new();
    let accounts = world.start(1).await.accounts;
    let sender = registered(&accounts, user_id!("@s:b")).await;
    let (flooded, user) = (user_id!("@a:b"), user_id!("@c:b"));
    let sessions = [registered(&accounts, flooded).await, registered(&accounts, user).await];
    let large = "x".repeat(60 * 1024);
    let fits = FULL_BYTES / large.len() as u64;
    let send = async |txn: &str, to: &[&UserId]| {
        let messages = to.iter().map(|user| message(user, &large)).collect();
        accounts.send_to_device(sender.device(), txn, messages).await.unwrap();
    };
    for n in 0..fits + 3 {
        send(&n.to_string(), &[flooded]).await;
    }
    let log = sessions[0].device().inbox();
    let shrink = async || accounts.uses.inboxes.submit(log, Order::Shrink).await.unwrap().unwrap();
    // Nothing of the last ten minutes may go.
    let length = shrink().await;
    assert_eq!((length.rows, length.bytes), (fits, fits * large.len() as u64));
    send("both", &[flooded, user]).await;
    assert_eq!(shrink().await.rows, fits);
    assert_eq!(accounts.inbox_after(sessions[1].device(), START).await.unwrap().0.len(), 1);
    // Later the oldest go by their bytes, also in the next process, and there is room again.
    world.clock.advance(std::time::Duration::from_secs(11 * 60));
    let accounts = world.start(2).await.accounts;
    let shrink = async || accounts.uses.inboxes.submit(log, Order::Shrink).await.unwrap().unwrap();
    // Many ask at once: no more goes than for one.
    for length in futures_util::future::join_all((0..20).map(|_| shrink())).await {
        assert!(length.rows < fits && length.rows >= KEPT_BYTES / large.len() as u64 - 64, "{length:?}");
    }
    let length = shrink().await;
    assert!(length.bytes <= KEPT_BYTES + 64 * large.len() as u64, "{length:?}");
    assert_eq!(length.bytes, length.rows * large.len() as u64);
    accounts.send_to_device(sender.device(), "more", vec![message(flooded, &large)]).await.unwrap();
    assert_eq!(shrink().await.rows, length.rows + 1);
}
