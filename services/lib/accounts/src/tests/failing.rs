//! A store that fails on the way: what was begun is finished later, and what passes isn't taken for damage.

use std::sync::atomic::AtomicUsize;

use futures_util::{StreamExt, stream};
use polity_store::{Bounds, Page, Row, StoreError, Table, Values, Wrap, schema, values_of};

use super::*;
use crate::inbox::{Deliver, Order};

/// Lets some drops through, then none; no scans, and no hints to where logs stand, while it is told so.
pub(super) struct Failing {
    inner: Arc<dyn Store>,
    pub(super) drops: AtomicUsize,
    no_scans: AtomicBool,
    no_hints: AtomicBool,
}

pub(super) fn world() -> (World, Arc<Failing>) {
    let mut failing = None;
    let world = World::on(|inner| {
        let (no_scans, no_hints) = (AtomicBool::new(false), AtomicBool::new(false));
        let made = Arc::new(Failing { inner, drops: AtomicUsize::new(usize::MAX), no_scans, no_hints });
        failing = Some(Arc::clone(&made));
        made
    });
    (world, failing.unwrap())
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("a test's".into())
}

#[async_trait::async_trait]
impl Wrap for Failing {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        if self.no_hints.load(Ordering::SeqCst) && table.number == schema::PROJECTED.number {
            return Ok(None);
        }
        self.inner.get(table, partition, key, consistency).await
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        if self.no_scans.load(Ordering::SeqCst) && table.number == schema::USER_RECORD.number {
            return Err(unavailable());
        }
        self.inner.scan(table, partition, bounds, limit, consistency).await
    }

    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        let left = self.drops.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| unavailable())?;
        self.inner.drop_partition(table, partition).await
    }
}

#[tokio::test]
async fn an_inbox_that_is_taken_away_leaves_nothing_wherever_that_is_interrupted() {
    for (drops, no_hints) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        let (world, failing) = world();
        let accounts = world.start(1).await.accounts;
        let session = registered(&accounts, user_id!("@a:b")).await;
        let (device, log) = (session.device(), session.device().inbox());
        let told = (0..2100_u64).map(|n| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let deliver = Deliver { id, at_ms: 1_000_000, event: "{}".into() };
            accounts.uses.inboxes.submit(log, Order::Deliver(deliver))
        });
        // A few at a time: a log takes only so many that wait.
        let told: Vec<_> = stream::iter(told).buffered(50).collect().await;
        for told in told {
            told.unwrap().unwrap();
        }
        failing.no_hints.store(no_hints, Ordering::SeqCst);
        failing.drops.store(drops, Ordering::SeqCst);
        assert!(accounts.drop_inbox(device).await.is_err());
        failing.drops.store(usize::MAX, Ordering::SeqCst);
        accounts.drop_inbox(device).await.unwrap();
        for bucket in 0..3_i64 {
            let partition = values_of![TENANT, log.log, bucket];
            let page = accounts.store.scan(&schema::LOG, partition, Bounds::all(), 10, Consistency::Quorum).await;
            assert!(page.unwrap().rows.is_empty(), "bucket {bucket} after {drops} drops");
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_loaded_for_a_while_is_not_damaged() {
    let (world, failing) = world();
    let user = user_id!("@a:b");
    new_account(&world.start(1).await.accounts, TENANT, user, "password").await;
    let accounts = world.start(2).await.accounts;
    failing.no_scans.store(true, Ordering::SeqCst);
    let refused = accounts.set_profile(TENANT, user, "displayname", Some("x".into())).await.unwrap_err();
    assert_eq!(polity_core::Classified::kind(&refused), polity_core::ErrorKind::Unavailable, "{refused}");
    failing.no_scans.store(false, Ordering::SeqCst);
    accounts.set_profile(TENANT, user, "displayname", Some("x".into())).await.unwrap();
}
