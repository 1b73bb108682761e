//! Rows that no store would take, and logs that can't be loaded.

use std::time::Duration;

use super::*;
use crate::append::{self, Known};

/// More than a key may have.
fn long() -> String {
    "x".repeat(9_000)
}

/// One that another writer's version, or a defect, made.
async fn append_unprojectable(store: &Arc<Faulty>, key: LogKey) {
    let known = Known::from_read(read::newest(&**store, key, Seq::ZERO, Consistency::Serial).await.unwrap());
    let (seq, txn) = (known.seq().next(), long());
    let row = NewRow { kind: 1, device: Some("d".into()), txn: Some(txn.into()), ..NewRow::default() }.at(seq);
    let state = Bytes::copy_from_slice(&seq.get().to_be_bytes());
    let head = Head { seq, state, ..known.head.clone() };
    append::append(&**store, key, &known, &[row], &head).await.unwrap();
}

/// A row that the head doesn't count: the test's machine panics when it loads that.
async fn append_uncounted(store: &Arc<Faulty>, key: LogKey) {
    let known = Known::from_read(read::newest(&**store, key, Seq::ZERO, Consistency::Serial).await.unwrap());
    let row = NewRow { kind: 1, ..NewRow::default() }.at(known.seq().next());
    let head = Head { seq: row.seq, ..known.head.clone() };
    append::append(&**store, key, &known, &[row], &head).await.unwrap();
}

async fn damage_head(store: &Arc<Faulty>, key: LogKey) {
    let found = read::newest(&**store, key, Seq::ZERO, Consistency::Serial).await.unwrap().unwrap();
    let (seq, epoch) = (found.head.seq.to_i64(), found.head.epoch.get());
    let condition = Condition { row: crate::types::head_key(), expect: Expect::Guards(seq, epoch) };
    let row = Row::new(crate::types::head_key(), Bytes::from_static(b"?")).guarded(seq, epoch);
    let written = store.cas(&schema::LOG, read::partition(key, found.bucket), condition, vec![Change::Put(row)]);
    assert_eq!(written.await.unwrap(), Cas::Applied);
}

#[tokio::test]
async fn what_can_not_be_projected_is_refused_alone_and_leaves_nothing() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    let note = |text: String| Say { text, dedup: None, trim: None };
    let bad = [3, 17, 18];
    let said = (0..40).map(|n| {
        let (logs, text) = (logs.clone(), if bad.contains(&n) { long() } else { n.to_string() });
        async move { logs.submit(key(), note(format!("note {text}"))).await.unwrap() }
    });
    for (n, outcome) in futures_util::future::join_all(said).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert!(!bad.contains(&n)),
            Err(error) => assert!(bad.contains(&n) && error.kind() == ErrorKind::TooLarge, "{n}: {error}"),
        }
    }
    let expected: Vec<String> = (0..40).filter(|n| !bad.contains(n)).map(|n| format!("note {n}")).collect();
    assert_eq!(texts(&store).await, expected);
    assert!(logs.drain(Duration::from_secs(5)).await && registry.leave().await.unwrap());
}

#[tokio::test]
async fn a_transaction_that_can_not_be_looked_up_fails_nobody_elses() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    let (id, before, after) = (long(), say("before"), say("after"));
    let (one, bad, two) =
        tokio::join!(logs.submit(key(), before), logs.submit(key(), say(&id)), logs.submit(key(), after));
    assert_eq!((one.unwrap().unwrap(), two.unwrap().unwrap()), (Seq::new(1), Seq::new(2)));
    assert_eq!(bad.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(texts(&store).await, ["before", "after"]);
}

#[tokio::test]
async fn a_log_that_can_not_be_loaded_is_set_aside_and_holds_up_no_other() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    let log = |n: u8| LogKey { log: LogId::new([n; 16]), ..key() };
    for n in 1..=5 {
        logs.submit(log(n), say("first")).await.unwrap().unwrap();
    }
    append_unprojectable(&store, log(2)).await;
    damage_head(&store, log(3)).await;
    append_uncounted(&store, log(5)).await;
    let (next, again, announced) = process(&store, 2, "a").await;
    let uses: [Arc<dyn Recover>; 1] = [Arc::new(again.clone())];
    for _ in 0..2 {
        // Its run isn't drained: whoever can read them finds them again.
        assert_eq!(recover_all(&next, "a", &uses).await.unwrap(), 2);
        assert_eq!(announced.load(Ordering::Relaxed), 2);
    }
    let refused = |n: u8| again.submit(log(n), say("second"));
    assert_eq!(refused(2).await.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(refused(3).await.unwrap().unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(again.submit(log(4), say("second")).await.unwrap().unwrap(), Seq::new(2));
    assert!(again.drain(Duration::from_secs(5)).await, "nothing is left to try");
    assert!(!next.leave().await.unwrap(), "its successor has to look after them");
}

#[tokio::test]
async fn logs_of_an_unknown_use_are_left_to_who_knows_it() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    let (next, again, _) = process(&store, 2, "a").await;
    assert_eq!(recover_all(&next, "a", &[]).await.unwrap(), 0);
    assert_eq!(recover_all(&next, "a", &[Arc::new(again.clone())]).await.unwrap(), 1);
    assert_eq!(recover_all(&next, "a", &[Arc::new(again)]).await.unwrap(), 0, "drained");
}

#[tokio::test]
async fn recovery_goes_on_once_the_store_can_be_read() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    let (next, again, announced) = process(&store, 2, "a").await;
    let uses: [Arc<dyn Recover>; 1] = [Arc::new(again)];
    store.no_scans.store(1, Ordering::Relaxed);
    assert!(recover_all(&next, "a", &uses).await.is_err(), "who died isn't known");
    store.no_scans.store(3, Ordering::Relaxed);
    assert_eq!(recover_until_done(&next, "a", &uses).await.unwrap(), 1);
    assert_eq!((announced.load(Ordering::Relaxed), store.no_scans.load(Ordering::Relaxed)), (1, 0));
    assert_eq!(recover_until_done(&next, "a", &uses).await.unwrap(), 0, "drained");
}
