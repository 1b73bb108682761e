//! The end of a log, step by step. `lives.rs` plays it from seeds.

use super::*;

/// The rows of each of the first buckets, heads too.
async fn buckets(store: &Arc<Faulty>, key: LogKey) -> Vec<Vec<Row>> {
    let mut out = Vec::new();
    for bucket in 0..4 {
        let partition = read::partition(key, polity_core::Bucket::new(bucket));
        out.push(store.scan(&schema::LOG, partition, Bounds::all(), 10_000, Consistency::Serial).await.unwrap().rows);
    }
    out
}

/// Of so many buckets the heads are left, sealed and empty, and nothing else of the log is.
async fn is_purged(store: &Arc<Faulty>, key: LogKey, count: usize) {
    let buckets = buckets(store, key).await;
    for (number, rows) in buckets.iter().enumerate() {
        let heads: Vec<Head> = rows.iter().map(|row| Head::from_row(row).unwrap()).collect();
        assert_eq!(heads.len(), usize::from(number < count), "bucket {number}");
        assert!(heads.iter().all(Head::is_purged), "bucket {number}");
    }
    let found = read::head(&**store, key, Seq::ZERO, Consistency::Serial).await;
    assert!(matches!(found, Err(LogError::Sealed)), "{found:?}");
}

async fn until_purged(logs: &Logs<Counter>) {
    for _ in 0..50 {
        if let Ok(any) = logs.purge(key(), Asked::default()).await {
            assert!(any, "there was something");
            return;
        }
    }
    panic!("the log is never purged");
}

async fn say_all(logs: &Logs<Counter>, said: std::ops::RangeInclusive<u64>) {
    let said: Vec<u64> = said.collect();
    for some in said.chunks(400) {
        let some = some.iter().map(|n| {
            let logs = logs.clone();
            async move { until_said(&logs, &n.to_string()).await }
        });
        futures_util::future::join_all(some).await;
    }
}

#[tokio::test]
async fn what_was_purged_is_gone_and_nobody_writes_it_again() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    let (_, other, _) = process(&store, 2, "b").await;
    for text in ["first", "second", "third"] {
        until_said(&logs, text).await;
    }
    until_purged(&logs).await;
    is_purged(&store, key(), 1).await;
    let first = values_of![key().tenant, key().log, "d", "first"];
    let transaction = store.get(&schema::TRANSACTIONS, first, Values::new(), Consistency::Quorum).await.unwrap();
    assert_eq!(transaction, None);
    for logs in [&logs, &other] {
        for text in ["first", "fourth"] {
            assert!(matches!(logs.submit(key(), say(text)).await.unwrap(), Err(LogError::Sealed)));
        }
        assert!(matches!(logs.recover(key()).await, Err(LogError::Sealed)));
        until_purged(logs).await;
    }
    assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    assert!(registry.leave().await.unwrap(), "it owes nothing");
    is_purged(&store, key(), 1).await;
}

#[tokio::test]
async fn a_log_is_sealed_where_its_next_row_would_go() {
    for (rows, heads) in [(1022, 1), (1023, 2), (1024, 2)] {
        let store = Faulty::new();
        let (_, logs, _) = process(&store, 1, "a").await;
        say_all(&logs, 1..=rows).await;
        until_purged(&logs).await;
        is_purged(&store, key(), heads).await;
    }
}

#[tokio::test]
async fn a_log_without_rows_is_left_as_it_is() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    assert!(!logs.purge(key(), Asked::default()).await.unwrap());
    assert_eq!(until_said(&logs, "first").await, Seq::new(1));
}

#[tokio::test]
async fn whatever_becomes_of_a_seal_it_stands_before_anything_goes() {
    for fault in [Fault::LandsUnheard, Fault::NeverLands, Fault::LandsLater] {
        let store = Faulty::new();
        let (_, logs, _) = process(&store, 1, "a").await;
        until_said(&logs, "first").await;
        store.fault_alone(fault);
        until_purged(&logs).await;
        is_purged(&store, key(), 1).await;
        if store.held.lock().is_some() {
            assert!(matches!(store.land().await, Cas::Refused(_)));
        }
        // Of what deletes the rows, too.
        let (_, logs, _) = process(&store, 2, "b").await;
        let other = LogKey { log: LogId::new([2; 16]), ..key() };
        logs.submit(other, say("first")).await.unwrap().unwrap();
        store.fault(fault);
        logs.purge(other, Asked::default()).await.unwrap();
        if store.held.lock().is_some() {
            store.land().await;
        }
        is_purged(&store, other, 1).await;
    }
}

#[tokio::test]
async fn who_was_stopped_while_he_opened_a_bucket_finds_its_head() {
    let store = Faulty::new();
    let (_, old, _) = process(&store, 1, "a").await;
    let (_, new, _) = process(&store, 2, "b").await;
    say_all(&old, 1..=1023).await;
    // He opens the next bucket, and nobody knows of it.
    store.fault(Fault::LandsLater);
    store.stop_fences();
    let stopped = polity_core::tasks::spawn({
        let old = old.clone();
        async move { old.submit(key(), say("late")).await }
    });
    while store.held.lock().is_none() {
        tokio::task::yield_now().await;
    }
    // Others go on, until that bucket isn't the last one any more.
    say_all(&new, 1024..=2100).await;
    until_purged(&new).await;
    is_purged(&store, key(), 3).await;
    assert!(matches!(store.land().await, Cas::Refused(_)), "there is a bucket");
    store.go_on();
    let late = stopped.await.unwrap();
    assert!(matches!(late, Ok(Err(_))), "{late:?}");
    assert!(matches!(old.submit(key(), say("late")).await.unwrap(), Err(LogError::Sealed)));
    is_purged(&store, key(), 3).await;
}

#[tokio::test]
async fn who_loads_a_sealed_log_goes_on_with_its_purge() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    say_all(&one, 1..=1500).await;
    assert!(one.drain(std::time::Duration::from_secs(5)).await);
    // Sealed, and nothing else: as if whoever did it died then.
    let found = read::newest(&*store, key(), Seq::ZERO, Consistency::Serial).await.unwrap().unwrap();
    let sealed = Head { epoch: polity_core::Epoch::SEALED, ..found.head.clone() };
    let expect = Expect::Guards(found.head.seq.to_i64(), found.head.epoch.get());
    let condition = Condition { row: crate::types::head_key(), expect };
    let changes = vec![Change::Put(sealed.to_row())];
    store.cas(&schema::LOG, read::partition(key(), found.bucket), condition, changes).await.unwrap();
    let (_, two, _) = process(&store, 2, "b").await;
    // Told at once; that is gone on with afterwards.
    assert!(matches!(two.submit(key(), say("more")).await.unwrap(), Err(LogError::Sealed)));
    assert!(two.drain(std::time::Duration::from_secs(5)).await);
    is_purged(&store, key(), 2).await;
}

#[tokio::test]
async fn a_name_goes_to_its_next_life_and_keeps_the_log_of_the_last_one() {
    let store = Faulty::new();
    let names = || Arc::new(Names::new(Arc::clone(&store) as _, Arc::new(SystemRandom), "counter"));
    let (here, there) = (names(), names());
    let tenant = TenantId::new(1);
    let first = here.find_or_make(tenant, "log").await.unwrap();
    assert_eq!(there.find(tenant, "log").await.unwrap(), Some(first));
    let next = here.next_life("log", first).await.unwrap().unwrap();
    let named = there.look_up(tenant, "log", Consistency::Quorum).await.unwrap();
    assert_eq!(named, Some(Named { key: next, before: Some(first) }));
    // Who has the old one in memory finds it sealed, and says so.
    let stale = names();
    let last = here.next_life("log", next).await.unwrap().unwrap();
    assert_eq!(there.find(tenant, "log").await.unwrap(), Some(next));
    there.sealed(next);
    assert_eq!(there.find(tenant, "log").await.unwrap(), Some(last));
    stale.sealed(last);
    assert_eq!(stale.find(tenant, "log").await.unwrap(), Some(last), "its name has no other one yet");
}
