//! Fences, and what a process owes that can't go on.

use super::*;

async fn head(store: &Arc<Faulty>) -> Head {
    read::newest(&**store, key(), Seq::ZERO, Consistency::Serial).await.unwrap().unwrap().head
}

fn dyn_recover(logs: &Logs<Counter>) -> [Arc<dyn Recover>; 1] {
    [Arc::new(logs.clone())]
}

#[tokio::test]
async fn the_first_append_can_not_land_once_a_log_without_rows_is_fenced() {
    let store = Faulty::new();
    let (_, stopped, _) = process(&store, 1, "a").await;
    store.fault(Fault::LandsLater);
    store.stop_fences();
    let first = polity_core::tasks::spawn(async move { stopped.submit(key(), say("late")).await });
    while store.held.lock().is_none() {
        tokio::task::yield_now().await;
    }
    let (_, new, announced) = process(&store, 2, "b").await;
    new.recover(key()).await.unwrap();
    let fenced = head(&store).await;
    assert_eq!((fenced.seq, fenced.epoch.get(), fenced.writer), (Seq::ZERO, 1, IncarnationId::new([2; 16])));
    assert!(matches!(store.land().await, Cas::Refused(_)));
    assert_eq!(read::head(&*store, key(), Seq::ZERO, Consistency::Serial).await.unwrap(), None, "still no row");
    assert_eq!(until_said(&new, "first").await, Seq::new(1));
    assert!(new.drain(std::time::Duration::from_secs(5)).await, "announced, too");
    assert_eq!((announced.load(Ordering::Relaxed), texts(&store).await), (1, vec!["first".to_owned()]));
    first.abort();
}

#[tokio::test]
async fn an_own_first_append_that_landed_unheard_is_not_lost() {
    for fault in [Fault::LandsUnheard, Fault::NeverLands, Fault::LandsLater] {
        let store = Faulty::new();
        let (_, logs, _) = process(&store, 1, "a").await;
        store.fault(fault);
        // One request, no retry of its client's.
        assert_eq!(logs.submit(key(), say("first")).await.unwrap().unwrap(), Seq::new(1), "{fault:?}");
        assert_eq!(texts(&store).await, ["first"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_append_is_decided_again_on_what_is_there_now() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    let (_, two, _) = process(&store, 2, "b").await;
    for n in 1..20 {
        let logs = if n % 2 == 0 { &one } else { &two };
        assert_eq!(logs.submit(key(), say(&n.to_string())).await.unwrap().unwrap(), Seq::new(n));
        let other = if n % 2 == 0 { &two } else { &one };
        assert_eq!(
            other.submit(key(), say(&n.to_string())).await.unwrap().unwrap(),
            Seq::new(n),
            "the same transaction"
        );
    }
}

#[tokio::test]
async fn a_loaded_log_is_fenced_when_it_is_recovered() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    logs.recover(key()).await.unwrap();
    assert_eq!((head(&store).await.epoch.get(), read::projected_seq(&*store, key()).await.unwrap()), (2, Seq::new(1)));
    assert_eq!(
        logs.submit(key(), say("second")).await.unwrap().unwrap(),
        Seq::new(2),
        "it stays loaded, by its own fence"
    );
    assert_eq!(head(&store).await.epoch.get(), 2);
    let (_, other, _) = process(&store, 2, "b").await;
    other.recover(key()).await.unwrap();
    assert_eq!((other.loaded(), head(&store).await.epoch.get()), (0, 3), "nothing stays loaded for it");
    assert_eq!(logs.submit(key(), say("third")).await.unwrap().unwrap(), Seq::new(3));
}

#[tokio::test]
async fn a_full_bucket_is_fenced_in_the_next_one() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    for start in (1..1024).step_by(256) {
        let group = (start..1024.min(start + 256)).map(|n| {
            let logs = logs.clone();
            async move { until_said(&logs, &n.to_string()).await }
        });
        futures_util::future::join_all(group).await;
    }
    store.fault(Fault::LandsLater);
    store.stop_fences();
    let stopped = polity_core::tasks::spawn(async move { logs.submit(key(), say("1024")).await });
    while store.held.lock().is_none() {
        tokio::task::yield_now().await;
    }
    let (_, other, _) = process(&store, 2, "b").await;
    other.recover(key()).await.unwrap();
    let fenced = head(&store).await;
    assert_eq!((fenced.seq, fenced.epoch.get()), (Seq::new(1023), 2));
    assert!(matches!(store.land().await, Cas::Refused(_)));
    assert_eq!(other.submit(key(), say("1024")).await.unwrap().unwrap(), Seq::new(1024));
    stopped.abort();
}

#[tokio::test]
async fn who_waits_for_a_write_that_cannot_be_settled_is_told_and_the_log_is_fenced_before_anything_else() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    store.fault(Fault::LandsLater);
    store.stop_fences();
    let second = logs.submit(key(), say("second")).await.unwrap().unwrap_err();
    assert!(matches!(second, LogError::Store(StoreError::Unknown(_))), "{second}");
    assert_eq!(second.kind(), ErrorKind::Unavailable);
    // It may still be under way: nothing is appended meanwhile, and the log isn't left.
    assert!(logs.submit(key(), say("third")).await.unwrap().is_err());
    assert!(!logs.drain(std::time::Duration::from_millis(50)).await);
    assert!(!registry.leave().await.unwrap(), "somebody else must look");
    store.go_on();
    let (other, recoverer, _) = process(&store, 2, "b").await;
    assert_eq!(recover(&other, registry.incarnation(), &dyn_recover(&recoverer)).await.unwrap(), 1);
    assert!(matches!(store.land().await, Cas::Refused(_)), "it can't land any more");
    assert_eq!(texts(&store).await, ["first"]);
}

#[tokio::test]
async fn the_process_that_gave_a_write_up_fences_before_it_goes_on() {
    for lands_before in [true, false] {
        let store = Faulty::new();
        let (_, logs, announced) = process(&store, 1, "a").await;
        until_said(&logs, "first").await;
        store.fault(Fault::LandsLater);
        store.stop_fences();
        assert!(logs.submit(key(), say("second")).await.unwrap().is_err());
        let before = (announced.load(Ordering::Relaxed), head(&store).await.epoch);
        if lands_before {
            assert!(matches!(store.land().await, Cas::Applied));
        }
        store.go_on();
        // The client's retry: it finds its row, or writes it once.
        assert_eq!(logs.submit(key(), say("second")).await.unwrap().unwrap(), Seq::new(2));
        assert!(head(&store).await.epoch > before.1, "fenced");
        if !lands_before {
            assert!(matches!(store.land().await, Cas::Refused(_)));
        }
        assert_eq!(texts(&store).await, ["first", "second"]);
        assert!(announced.load(Ordering::Relaxed) > before.0);
        assert!(logs.drain(std::time::Duration::from_secs(5)).await, "nothing is owed any more");
    }
}

#[tokio::test]
async fn a_task_that_dies_takes_nothing_with_it() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    let (died, beside) = tokio::join!(logs.submit(key(), say("panic")), logs.submit(key(), say("beside")));
    assert!(matches!((died, beside), (Err(LogError::Ended), Err(LogError::Ended))));
    assert_eq!(logs.loaded(), 0);
    assert_eq!(until_said(&logs, "second").await, Seq::new(2));
    assert_eq!(head(&store).await.epoch.get(), 2, "fenced: the dead task may have been writing");
    assert!(matches!(logs.submit(key(), say("panic")).await, Err(LogError::Ended)));
    logs.sweep();
    assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    assert!(registry.leave().await.unwrap(), "the sweep took it up");
}

#[tokio::test]
async fn who_died_with_a_log_does_not_leave_it_unseen() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    assert!(matches!(logs.submit(key(), say("panic")).await, Err(LogError::Ended)));
    assert!(!registry.leave().await.unwrap());
    let (next, again, _) = process(&store, 2, "a").await;
    assert_eq!(recover_all(&next, "a", &dyn_recover(&again)).await.unwrap(), 1);
    assert!(again.drain(std::time::Duration::from_secs(5)).await && next.leave().await.unwrap());
    let (last, logs, _) = process(&store, 3, "a").await;
    assert_eq!(recover_all(&last, "a", &dyn_recover(&logs)).await.unwrap(), 0, "all are drained");
}

#[tokio::test]
async fn slots_roll_over_and_keep_what_is_in_use() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    let log = |n: u8| LogKey { log: LogId::new([n; 16]), ..key() };
    for n in 0..200 {
        logs.submit(log(n), say("first")).await.unwrap().unwrap();
        if n % 10 > 0 {
            logs.unload(0, 5);
        }
    }
    let rolled = async || {
        let members =
            store.scan(&schema::MEMBERS, polity_store::values_of!["polity"], Bounds::all(), 10, Consistency::Serial);
        let row = members.await.unwrap().rows.remove(0);
        (row.columns[3].as_ref().and_then(polity_store::Value::as_int).unwrap(), row.guards.unwrap().1)
    };
    // The last roll-over may still be under way.
    polity_core::tasks::drain(std::time::Duration::from_millis(200)).await;
    let (first, last) = rolled().await;
    assert!(last >= 3 && first == last - 1, "{first} to {last}");
    let slot = |slot: i64| polity_store::values_of![Bytes::copy_from_slice(&[1; 16]), slot];
    let entries = async |n: i64| {
        store.scan(&schema::ACTIVE, slot(n), Bounds::all(), 1000, Consistency::Serial).await.unwrap().rows.len()
    };
    for old in 1..last {
        assert_eq!(entries(old).await, 0, "slot {old} is dropped");
    }
    let (next, _, _) = process(&store, 2, "a").await;
    let dead = next.close(registry.incarnation()).await.unwrap();
    let left = next.left_open(dead).await.unwrap();
    let missing: Vec<u8> = (0..200).filter(|n| !left.iter().any(|left| left.key == log(*n))).collect();
    assert!(missing.is_empty(), "all moved in the last minute: {missing:?}");
}

/// A store in which a slot is made between two tries to close it.
struct Between {
    inner: Arc<Faulty>,
    /// The first one is that of who closes, for a slot of its own.
    tries: AtomicU64,
}

#[async_trait]
impl Wrap for Between {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        if table.number == schema::ACTIVE.number && self.tries.fetch_add(1, Ordering::Relaxed) == 2 {
            let open = Row::new(values_of![""], Bytes::new()).guarded(1, 0);
            let absent = Condition { row: open.key.clone(), expect: Expect::Absent };
            let made = self.inner.cas(table, partition.clone(), absent, vec![Change::Put(open)]).await;
            assert_eq!(made.unwrap(), Cas::Applied);
        }
        self.inner.cas(table, partition, condition, changes).await
    }
}

#[tokio::test]
async fn a_slot_that_is_made_while_it_is_closed_is_closed() {
    let store = Faulty::new();
    let (registry, _, _) = process(&store, 1, "a").await;
    // The number was raised, the slot isn't made yet.
    let slot = values_of![Bytes::copy_from_slice(&[1; 16]), 1_i64];
    store.drop_partition(&schema::ACTIVE, slot.clone()).await.unwrap();
    let between: Arc<dyn Store> = Arc::new(Between { inner: Arc::clone(&store), tries: AtomicU64::new(0) });
    let closer = Member::new(IncarnationId::new([3; 16]), "test", "c", "");
    let closer = Registry::join(between, &closer).await.unwrap();
    closer.close(registry.incarnation()).await.unwrap();
    let sentinel = store.get(&schema::ACTIVE, slot, values_of![""], Consistency::Serial).await.unwrap();
    assert_eq!(sentinel.and_then(|row| row.guards), Some((0, 0)));
}
