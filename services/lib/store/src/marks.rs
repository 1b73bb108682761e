//! Which users' partitions were written by this process: what was read before a write is not trusted after it.
//!
//! A mark moves when a write has ended and before its caller hears of it, so before any answer that rests on it leaves. Whoever keeps
//! something that was read keeps with it the mark as it was *before* the read, and trusts it while the mark stands there ([`Kept`]).
//!
//! [`Kept`]: crate::Kept

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use polity_core::{TenantId, tasks};
use ruma_common::UserId;

use crate::{Cas, Change, Condition, Durability, Store, StoreError, Table, Value, Values, Wrap, Write};

/// Counters. Several partitions share one: a write of another's costs a read that wasn't needed, nothing else.
const COUNTERS: usize = 1 << 16;

/// How often each user's partition of each table was written here.
pub struct Marks {
    counters: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// A mark at some moment. The sum of several is one, too: it moves when any of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// A store whose writes move marks.
pub struct MarkedStore {
    inner: Arc<dyn Store>,
    marks: Arc<Marks>,
}

/// A write that ends, and is marked, also if its caller is gone.
struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

// === impl Marks ===

impl Default for Marks {
    fn default() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { counters, hasher: RandomState::new() }
    }
}

impl Marks {
    /// The mark of a user's partition. Take it before the partition is read.
    #[must_use]
    pub fn of(&self, table: &Table, tenant: TenantId, user_id: &UserId) -> Mark {
        Mark(self.counters[self.place(table, tenant.to_i64(), user_id.as_str())].load(Ordering::Acquire))
    }

    /// The partition was written, here or elsewhere. Nothing for a table that isn't users'.
    pub fn moved(&self, table: &Table, partition: &Values) {
        if let Some(place) = self.place_of(table, partition) {
            self.moved_at(place);
        }
    }

    fn moved_at(&self, place: usize) {
        self.counters[place].fetch_add(1, Ordering::AcqRel);
    }

    /// Users' tables name tenant and user first.
    fn place_of(&self, table: &Table, partition: &Values) -> Option<usize> {
        if table.partition.get(1).is_none_or(|column| column.name != "user_id") {
            return None;
        }
        let [Value::Int(tenant), Value::Text(user), ..] = partition.as_slice() else { return None };
        Some(self.place(table, *tenant, user))
    }

    fn place(&self, table: &Table, tenant: i64, user: &str) -> usize {
        let hash = self.hasher.hash_one((table.number, tenant, user));
        usize::try_from(hash % COUNTERS as u64).unwrap_or(0)
    }
}

impl std::ops::Add for Mark {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

// === impl MarkedStore ===

impl MarkedStore {
    /// The same store, and the marks that its writes move.
    #[must_use]
    pub fn over(inner: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<Marks>) {
        let marks = Arc::new(Marks::default());
        (Arc::new(Self { inner, marks: Arc::clone(&marks) }), marks)
    }
}

#[async_trait]
impl Wrap for MarkedStore {
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
        let Some(place) = self.marks.place_of(table, &partition) else {
            return self.inner.cas(table, partition, condition, changes).await;
        };
        let (inner, marks) = (Arc::clone(&self.inner), Arc::clone(&self.marks));
        // Refused, too: somebody else has written.
        to_the_end(async move {
            let outcome = inner.cas(table, partition, condition, changes).await;
            marks.moved_at(place);
            outcome
        })
        .await
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let places = writes.iter().filter_map(|write| self.marks.place_of(write.table, &write.partition));
        let places: Vec<usize> = places.collect();
        if places.is_empty() {
            return self.inner.put(writes, durability).await;
        }
        let (inner, marks) = (Arc::clone(&self.inner), Arc::clone(&self.marks));
        // Failed, too: some of it may be there.
        to_the_end(async move {
            let outcome = inner.put(writes, durability).await;
            places.into_iter().for_each(|place| marks.moved_at(place));
            outcome
        })
        .await
    }

    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        let Some(place) = self.marks.place_of(table, &partition) else {
            return self.inner.drop_partition(table, partition).await;
        };
        let (inner, marks) = (Arc::clone(&self.inner), Arc::clone(&self.marks));
        to_the_end(async move {
            let outcome = inner.drop_partition(table, partition).await;
            marks.moved_at(place);
            outcome
        })
        .await
    }
}

// === impl ToTheEnd ===

fn to_the_end<T: Send + 'static>(write: impl Future<Output = T> + Send + 'static) -> ToTheEnd<T> {
    ToTheEnd(Some(Box::pin(write)))
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(write) = &mut self.0 else { return Poll::Pending };
        let polled = write.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and with it whatever was kept.
        if let Some(write) = self.0.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            tasks::spawn(write);
        }
    }
}
