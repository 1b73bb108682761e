//! Marks over a real store: they move with every write of a user's partition, and only with that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use polity_core::{SystemClock, SystemRandom, TenantId};
use polity_store::{Durability, Kept, MarkedStore, Row, Store, StoreError, Write, WriteKind, schema, values_of};
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
