//! Marks over a real store: they move with every write of a user's partition, and only with that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use polity_core::{Life, Position, Seq, Stamp, SystemClock, SystemRandom, TenantId};
use polity_store::{
    Cas, Change, Condition, Consistency, Durability, Expect, Kept, MarkMoved, MarkPlace, MarkedStore, Row, Store,
    StoreError, Table, Values, Wrap, Write, WriteKind, schema, values_of,
};
use polity_store_local::LocalStore;
use ruma_common::user_id;

const TENANT: TenantId = TenantId::new(1);

fn store() -> (Arc<dyn Store>, Arc<polity_store::Marks>) {
    let clock = Arc::new(SystemClock::new());
    MarkedStore::over(LocalStore::memory(clock, &SystemRandom).expect("a store"))
}

fn filter(user: &str, value: &'static [u8]) -> Vec<Write> {
    vec![Write {
        table: &schema::FILTERS,
        partition: values_of![TENANT, user],
        row: Row::new(values_of!["id"], Bytes::from_static(value)),
        kind: WriteKind::Plain { ttl_s: 0 },
    }]
}

#[tokio::test]
async fn what_was_read_is_good_until_it_is_written() {
    let (store, marks) = store();
    let alice = user_id!("@alice:t.test");
    let kept: Kept<u8, u64> = Kept::new("test", 1 << 16, |_, _| 8);
    let read = async |value: u64| {
        let mark = marks.of(&schema::FILTERS, TENANT, alice);
        kept.get_or_read(&1, mark, async { Ok::<_, StoreError>(value) }).await.expect("a value")
    };
    assert_eq!((read(1).await, read(2).await), (1, 1));
    store.put(filter("@alice:t.test", &[1, 0]), Durability::Acknowledged).await.expect("a write");
    assert_eq!((read(3).await, read(4).await), (3, 3));
    let other = marks.of(&schema::MEMBERSHIPS, TENANT, alice);
    store.put(filter("@alice:t.test", &[1, 0, 1]), Durability::Acknowledged).await.expect("a write");
    assert_eq!(marks.of(&schema::MEMBERSHIPS, TENANT, alice), other, "another table");
    assert_eq!(read(5).await, 5);
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_moves_the_mark_when_it_ends() {
    let (store, marks) = store();
    let alice = user_id!("@alice:t.test");
    let mark = || marks.of(&schema::FILTERS, TENANT, alice);
    for _ in 0..20 {
        let before = mark();
        let mut write = store.put(filter("@alice:t.test", &[1, 0]), Durability::Acknowledged);
        // Begun, and dropped.
        let waker = std::task::Waker::noop();
        let polled = write.as_mut().poll(&mut std::task::Context::from_waker(waker));
        drop(write);
        if polled.is_pending() {
            let moved = async {
                while mark() == before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), moved).await.expect("the mark moves");
        }
    }
}

/// A store whose next writes have an unknown outcome: they may land later, or not.
struct Uncertain {
    inner: Arc<dyn Store>,
    unknown: AtomicUsize,
}

impl Uncertain {
    fn outcome(&self) -> Result<(), StoreError> {
        let left = self.unknown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { Err(StoreError::Unknown("no answer".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Wrap for Uncertain {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.outcome()?;
        self.inner.put(writes, durability).await
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.outcome()?;
        self.inner.cas(table, partition, condition, changes).await
    }
}

/// What others are told.
#[derive(Default)]
struct Told {
    marks: AtomicUsize,
    owed: AtomicUsize,
}

impl MarkMoved for Told {
    fn marked(&self, _: MarkPlace) {
        self.marks.fetch_add(1, Ordering::Relaxed);
    }

    fn owed(&self, count: usize) {
        self.owed.store(count, Ordering::Relaxed);
    }
}

impl Told {
    fn so_far(&self) -> (usize, usize) {
        (self.marks.load(Ordering::Relaxed), self.owed.load(Ordering::Relaxed))
    }
}

fn uncertain(unknown: usize) -> (Arc<dyn Store>, Arc<dyn Store>, Arc<Told>) {
    let inner: Arc<dyn Store> = LocalStore::memory(Arc::new(SystemClock::new()), &SystemRandom).expect("a store");
    let told = Arc::new(Told::default());
    let uncertain = Uncertain { inner: Arc::clone(&inner), unknown: AtomicUsize::new(unknown) };
    let (store, _) = MarkedStore::telling(Arc::new(uncertain), Some(Arc::clone(&told) as _));
    (inner, store, told)
}

fn receipt(seq: u64) -> Write {
    Write {
        table: &schema::OWN_RECEIPTS,
        partition: values_of![TENANT, "@alice:t.test"],
        row: Row::new(values_of!["!room", "", "m.read"], Bytes::from_static(&[1])),
        kind: WriteKind::Projection(Stamp::new(Position::new(Life::FIRST, Seq::new(seq)), 0)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_projection_of_unknown_outcome_is_repeated_until_it_stands_and_others_are_told_then() {
    let (inner, store, told) = uncertain(3);
    let failed = store.put(vec![receipt(7)], Durability::Acknowledged).await;
    assert!(matches!(failed, Err(StoreError::Unknown(_))));
    assert_eq!(told.so_far(), (1, 1), "it may be there, and may come");
    let failed = store.put(vec![receipt(5)], Durability::Acknowledged).await;
    assert!(matches!(failed, Err(StoreError::Unknown(_))));
    assert_eq!(told.so_far(), (2, 1), "the greater one counts");
    let stamp = async || {
        let partition = values_of![TENANT, "@alice:t.test"];
        let row =
            inner.get(&schema::OWN_RECEIPTS, partition, values_of!["!room", "", "m.read"], Consistency::Quorum).await;
        row.expect("a read").and_then(|row| row.stamp).map(|stamp| stamp.position().seq.get())
    };
    assert_eq!(stamp().await, None);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((stamp().await, told.so_far()), (None, (2, 1)), "the first repetition fails, too");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((stamp().await, told.so_far()), (Some(7), (3, 0)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told.so_far(), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn of_more_writes_than_are_remembered_others_are_told_when_they_can_begin_no_more() {
    const MANY: usize = 5_000;
    let (_, store, told) = uncertain(MANY);
    for n in 0..MANY {
        let partition = values_of![TENANT, format!("@user{n}:t.test").as_str()];
        let failed = store.put(vec![Write { partition, ..receipt(7) }], Durability::Acknowledged).await;
        assert!(matches!(failed, Err(StoreError::Unknown(_))));
    }
    let (marks, owed) = told.so_far();
    assert_eq!(marks, MANY);
    // Two of them may share a mark.
    assert!((MANY - 50..=MANY).contains(&owed), "{owed}");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(told.so_far(), (MANY + owed, 0));
}

#[tokio::test(start_paused = true)]
async fn what_its_writer_repeats_is_not_repeated_for_him() {
    let (inner, store, told) = uncertain(1);
    let failed = store.put(vec![receipt(7)], Durability::Rebuildable).await;
    assert!(matches!(failed, Err(StoreError::Unknown(_))));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told.so_far(), (1, 0));
    let partition = values_of![TENANT, "@alice:t.test"];
    let row = inner.get(&schema::OWN_RECEIPTS, partition, values_of!["!room", "", "m.read"], Consistency::Quorum).await;
    assert_eq!(row.expect("a read"), None);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_of_unknown_outcome_is_told_again_when_it_can_begin_no_more() {
    let (_, store, told) = uncertain(1);
    let head = Row::new(values_of![-1_i64], Bytes::new()).guarded(0, 1);
    let condition = Condition { row: values_of![-1_i64], expect: Expect::Absent };
    let partition = values_of![TENANT, "@alice:t.test", "D", "signed"];
    let cas = store.cas(&schema::ONE_TIME_KEYS, partition, condition, vec![Change::Put(head)]).await;
    assert!(matches!(cas, Err(StoreError::Unknown(_))));
    assert_eq!(told.so_far(), (1, 1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(told.so_far(), (1, 1));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(told.so_far(), (2, 0));
}
