//! Which users' partitions were written: what was read before a write is not trusted after it.
//!
//! A mark moves when a write has ended and before its caller hears of it, so before any answer that rests on it leaves. Whoever keeps
//! something that was read keeps with it the mark as it was *before* the read, and trusts it while the mark stands there ([`Kept`]).
//!
//! Where several processes write, each tells the others which marks it moved ([`MarkMoved`]). A mark's place is therefore a function of
//! table, tenant and user that is the same in every process and version. While it isn't known what others have written, nothing that
//! was read before is trusted ([`Marks::distrust`]).
//!
//! [`Kept`]: crate::Kept

use std::{
    future::Future,
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
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    Cas, Change, Condition, Durability, Store, StoreError, Table, Value, Values, Wrap, Write, schema,
    unsettled::Unsettled,
};

/// Counters. Several partitions share one: a write of another's costs a read that wasn't needed, nothing else.
const COUNTERS: usize = 1 << 16;
/// How far the count of distrusts stands above the counters, which never come so far.
const EPOCH_SHIFT: u32 = 40;
/// Where a table's number stands in the seed of its places, above any tenant's number.
const TABLE_SHIFT: u32 = 56;

/// How often each user's partition of each table was written, as far as this process knows.
pub struct Marks {
    counters: Box<[AtomicU64]>,
    /// How often all of them moved at once.
    epoch: AtomicU64,
}

/// Where a partition's mark stands: the same in every process. What processes tell each other of a write.
pub type MarkPlace = u16;

/// Hears of every mark that this process moves, before the write's caller hears of the write.
pub trait MarkMoved: Send + Sync + 'static {
    /// A partition was written whose mark stands there.
    fn marked(&self, place: MarkPlace);

    /// So many writes have an unknown outcome now: their marks move once more, and are told then.
    fn owed(&self, count: usize);
}

/// A mark at some moment. The sum of several is one, too: it moves when any of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// A store whose writes move marks.
pub struct MarkedStore {
    inner: Arc<dyn Store>,
    moves: Moves,
    unsettled: Arc<Unsettled>,
}

/// What moves when something was written.
#[derive(Clone)]
pub(crate) struct Moves {
    marks: Arc<Marks>,
    told: Option<Arc<dyn MarkMoved>>,
}

/// A write that ends, and is marked, also if its caller is gone.
struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

// === impl Marks ===

impl Default for Marks {
    fn default() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { counters, epoch: AtomicU64::new(0) }
    }
}

impl Marks {
    /// The mark of a user's partition. Take it before the partition is read.
    #[must_use]
    pub fn of(&self, table: &Table, tenant: TenantId, user_id: &UserId) -> Mark {
        self.at(Self::place(table, tenant, user_id.as_str()))
    }

    /// The mark of what a tenant's directory lists: of all its partitions. Take it before they are read.
    #[must_use]
    pub fn of_listings(&self, tenant: TenantId) -> Mark {
        self.at(Self::place(&schema::PUBLIC_ROOMS, tenant, ""))
    }

    fn at(&self, place: MarkPlace) -> Mark {
        let epoch = self.epoch.load(Ordering::Acquire) << EPOCH_SHIFT;
        Mark(epoch.wrapping_add(self.counters[usize::from(place)].load(Ordering::Acquire)))
    }

    /// The partition was written, here or elsewhere. Nothing for a table that has no marks.
    pub fn moved(&self, table: &Table, partition: &Values) {
        if let Some(place) = Self::place_of(table, partition) {
            self.moved_at(place);
        }
    }

    /// A partition was written whose mark stands there.
    pub fn moved_at(&self, place: MarkPlace) {
        self.counters[usize::from(place)].fetch_add(1, Ordering::AcqRel);
    }

    /// Any partition may have been written: every mark moves.
    pub fn distrust(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Users' tables name tenant and user first.
    pub(crate) fn place_of(table: &Table, partition: &Values) -> Option<MarkPlace> {
        if table.number == schema::PUBLIC_ROOMS.number {
            let tenant = partition.first().and_then(Value::as_int)?;
            return Some(Self::place(table, TenantId::new(tenant.cast_unsigned()), ""));
        }
        if table.partition.get(1).is_none_or(|column| column.name != "user_id") {
            return None;
        }
        let [Value::Int(tenant), Value::Text(user), ..] = partition.as_slice() else { return None };
        Some(Self::place(table, TenantId::new(tenant.cast_unsigned()), user))
    }

    /// Where the mark of a user's partition stands. XXH3, of the user's name under a seed of table and tenant: for ever, as processes
    /// of two versions tell each other places.
    #[must_use]
    pub fn place(table: &Table, tenant: TenantId, user: &str) -> MarkPlace {
        let seed = (u64::from(table.number) << TABLE_SHIFT) ^ tenant.get();
        u16::try_from(xxh3_64_with_seed(user.as_bytes(), seed) & 0xffff).unwrap_or_default()
    }
}

impl Moves {
    pub(crate) fn moved_at(&self, place: MarkPlace) {
        self.marks.moved_at(place);
        if let Some(told) = &self.told {
            told.marked(place);
        }
    }

    pub(crate) fn owed(&self, count: usize) {
        if let Some(told) = &self.told {
            told.owed(count);
        }
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
        Self::telling(inner, None)
    }

    /// The same, of a process that tells others which marks its writes move.
    #[must_use]
    pub fn telling(inner: Arc<dyn Store>, told: Option<Arc<dyn MarkMoved>>) -> (Arc<dyn Store>, Arc<Marks>) {
        let marks = Arc::new(Marks::default());
        let moves = Moves { marks: Arc::clone(&marks), told };
        let unsettled = Unsettled::new(Arc::clone(&inner), moves.clone());
        (Arc::new(Self { inner, moves, unsettled }), marks)
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
        let Some(place) = Marks::place_of(table, &partition) else {
            return self.inner.cas(table, partition, condition, changes).await;
        };
        let (inner, moves, unsettled) = (Arc::clone(&self.inner), self.moves.clone(), Arc::clone(&self.unsettled));
        // Refused, too: somebody else has written.
        to_the_end(async move {
            let outcome = inner.cas(table, partition, condition, changes).await;
            if matches!(outcome, Err(StoreError::Unknown(_))) {
                unsettled.conditional(place);
            }
            moves.moved_at(place);
            outcome
        })
        .await
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let places = writes.iter().filter_map(|write| Marks::place_of(write.table, &write.partition));
        let places: Vec<MarkPlace> = places.collect();
        if places.is_empty() {
            return self.inner.put(writes, durability).await;
        }
        let (inner, moves, unsettled) = (Arc::clone(&self.inner), self.moves.clone(), Arc::clone(&self.unsettled));
        // What can be derived again is repeated by who derives it.
        let unrepeated = if durability == Durability::Acknowledged { writes.clone() } else { Vec::new() };
        // Failed, too: some of it may be there.
        to_the_end(async move {
            let outcome = inner.put(writes, durability).await;
            if matches!(outcome, Err(StoreError::Unknown(_))) {
                unsettled.writes(unrepeated);
            }
            places.into_iter().for_each(|place| moves.moved_at(place));
            outcome
        })
        .await
    }

    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        let Some(place) = Marks::place_of(table, &partition) else {
            return self.inner.drop_partition(table, partition).await;
        };
        let (inner, moves) = (Arc::clone(&self.inner), self.moves.clone());
        to_the_end(async move {
            let outcome = inner.drop_partition(table, partition).await;
            moves.moved_at(place);
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
