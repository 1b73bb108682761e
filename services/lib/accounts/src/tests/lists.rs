//! What the log of changed devices tells whoever waits.

use polity_bus::{News, Subject, SubjectKind, Wake};
use polity_log::{LogRow, Machine as _};
use ruma_common::OwnedUserId;

use super::*;
use crate::lists::{self, ListMachine};

#[tokio::test]
async fn users_whose_rows_were_appended_together_are_told_each_with_the_newest_row() {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let (subscriptions, mut receiver) = bus.receiver(8);
    let log = lists::log(TENANT);
    subscriptions.subscribe(Subject::new(SubjectKind::DeviceLists, TENANT, log.log));
    subscriptions.settled().await;
    let (a, b) = (user_id!("@a:b"), user_id!("@b:b"));
    let row = |(seq, user): (u64, &UserId)| LogRow {
        seq: Seq::new(seq),
        kind: 1,
        event_id: None,
        device: None,
        txn: None,
        body: lists::encode(user),
        attempt: 0,
    };
    let mut machine = ListMachine::new(Arc::clone(&bus));
    // The second group is one that several wrote, of which who loads the log tells.
    for group in [&[(1, a), (2, b)][..], &[(3, a), (4, b), (5, a)]] {
        machine.announce(log, &group.iter().copied().map(row).collect::<Vec<_>>());
    }
    let mut told: Vec<(u64, OwnedUserId)> = Vec::new();
    while told.len() < 4 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(5), receiver.next()).await.expect("in time");
        let Some(News::Message(message)) = next else { panic!("it ends") };
        let Some((Wake::Log(seq), body)) = Wake::decode(&message.payload) else { panic!("no wake") };
        told.push((seq.get(), changed_user(body).unwrap()));
    }
    let expected = [(1, a), (2, b), (4, b), (5, a)].map(|(seq, user)| (seq, user.to_owned()));
    assert_eq!(told, expected);
}
