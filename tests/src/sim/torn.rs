//! Conditional writes of which a part is seen before the whole: decided, but made at one node only. A read that asks that node brings
//! the rows that it reads to the others, and no others (the head without the rows, most often); what settles conditional
//! writes, a serial read or the next one, makes the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Page, Row, Store, StoreError, Table, Values, Wrap,
    Write, schema,
};

use super::{chance::Chance, stamped::StampedStore};

/// A partition: the table's number and the key.
type Place = (u8, Values);

/// The store in memory, with writes that are torn. See the module.
pub(super) struct TornStore {
    inner: Arc<StampedStore>,
    chance: Chance,
    /// At most one of a partition: the next one settles it.
    torn: Mutex<BTreeMap<Place, Torn>>,
    /// The logs that anybody tried to write to.
    logs: Mutex<BTreeSet<Values>>,
    /// See [`TornStore::records`].
    records: Mutex<BTreeSet<Values>>,
}

/// What isn't seen yet of a write.
struct Torn {
    table: &'static Table,
    /// Holds until the rest is made.
    condition: Condition,
    changes: Vec<Change>,
}

impl TornStore {
    pub(super) fn new(inner: Arc<StampedStore>, chance: Chance) -> Arc<Self> {
        Arc::new(Self { inner, chance, torn: Mutex::default(), logs: Mutex::default(), records: Mutex::default() })
    }

    /// Plain writes and projections: see [`StampedStore::put_at`].
    pub(super) async fn put_at(&self, writes: Vec<(Write, i64)>, durability: Durability) -> Result<(), StoreError> {
        let of_records = writes.iter().filter(|(write, _)| write.table.number == schema::USER_RECORD.number);
        self.records.lock().extend(of_records.map(|(write, _)| write.partition.clone()));
        self.inner.put_at(writes, durability).await
    }

    /// See [`StampedStore::goes_on_from`].
    pub(super) fn goes_on_from(&self, other: &Self) {
        self.inner.goes_on_from(&other.inner);
    }

    /// Deletes a partition: see [`StampedStore::drop_at`].
    pub(super) async fn drop_at(&self, table: &'static Table, partition: Values, time: i64) -> Result<(), StoreError> {
        self.settle(table, &partition)?;
        self.inner.drop_at(table, partition, time).await
    }

    /// The logs that anybody tried to write to, by tenant and log.
    pub(super) fn logs(&self) -> BTreeSet<Values> {
        self.logs.lock().clone()
    }

    /// The records that anybody tried to write to, by tenant and user.
    pub(super) fn records(&self) -> BTreeSet<Values> {
        self.records.lock().clone()
    }

    fn note(&self, table: &'static Table, partition: &Values) {
        if table.number == schema::LOG.number {
            self.logs.lock().insert(partition.iter().take(2).cloned().collect());
        }
    }

    /// Decides a conditional write and makes none of it yet.
    pub(super) fn tear(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        self.note(table, &partition);
        self.settle(table, &partition)?;
        let row = now(self.inner.get(table, partition.clone(), condition.row.clone(), Consistency::Serial))?;
        let holds = match condition.expect {
            Expect::Absent => row.is_none(),
            Expect::Guards(one, other) => row.is_some_and(|row| row.guards == Some((one, other))),
        };
        if holds {
            self.torn.lock().insert((table.number, partition), Torn { table, condition, changes });
        }
        Ok(())
    }

    /// Makes the rest of a torn write.
    pub(super) fn settle(&self, table: &'static Table, partition: &Values) -> Result<(), StoreError> {
        let place = (table.number, partition.clone());
        let Some(torn) = self.torn.lock().remove(&place) else { return Ok(()) };
        self.make(&torn, partition, torn.changes.clone())
    }

    /// A read may ask the node that has the write: then others have the rows that it reads, too.
    fn repair(
        &self,
        table: &'static Table,
        partition: &Values,
        reads: impl Fn(&Values) -> bool,
    ) -> Result<(), StoreError> {
        let place = (table.number, partition.clone());
        if !self.torn.lock().contains_key(&place) || self.chance.one_in(2) {
            return Ok(());
        }
        let Some(mut torn) = self.torn.lock().remove(&place) else { return Ok(()) };
        let is_read = |change: &Change| matches!(change, Change::Put(row) if reads(&row.key));
        let (read, rest): (Vec<_>, Vec<_>) = torn.changes.drain(..).partition(is_read);
        let head = read.iter().find_map(|change| match change {
            Change::Put(row) if row.key == torn.condition.row => row.guards,
            _ => None,
        });
        if head.is_none() && torn.condition.expect == Expect::Absent {
            // Nothing can be made here without what was to be absent.
            torn.changes = read.into_iter().chain(rest).collect();
        } else {
            if !read.is_empty() {
                self.make(&torn, partition, read)?;
            }
            torn.changes = rest;
            if let Some((one, other)) = head {
                torn.condition.expect = Expect::Guards(one, other);
            }
        }
        if !torn.changes.is_empty() {
            self.torn.lock().insert(place, torn);
        }
        Ok(())
    }

    fn make(&self, torn: &Torn, partition: &Values, changes: Vec<Change>) -> Result<(), StoreError> {
        let made = now(self.inner.cas(torn.table, partition.clone(), torn.condition.clone(), changes))?;
        match made {
            Cas::Applied => Ok(()),
            Cas::Refused(_) => Err(StoreError::Unavailable("a torn write doesn't fit any more".to_owned())),
        }
    }
}

/// The answer of the store in memory, which makes nobody wait.
pub(super) fn now<T>(asked: impl Future<Output = T>) -> T {
    tokio::task::unconstrained(asked).now_or_never().expect("a store in memory")
}

fn contains(bounds: &Bounds, key: &Values) -> bool {
    // A bound of fewer columns stands for all rows that begin so.
    let begins = |bound: &Values| key.get(..bound.len()).unwrap_or(key).to_vec();
    let after = match &bounds.from {
        Bound::Unbounded => true,
        Bound::Included(bound) => begins(bound)[..] >= bound[..],
        Bound::Excluded(bound) => begins(bound)[..] > bound[..],
    };
    after
        && match &bounds.to {
            Bound::Unbounded => true,
            Bound::Included(bound) => begins(bound)[..] <= bound[..],
            Bound::Excluded(bound) => begins(bound)[..] < bound[..],
        }
}

#[async_trait]
impl Wrap for TornStore {
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
        self.note(table, &partition);
        self.settle(table, &partition)?;
        now(self.inner.cas(table, partition, condition, changes))
    }

    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        match consistency {
            Consistency::Serial => self.settle(table, &partition)?,
            Consistency::Quorum => self.repair(table, &partition, |row| *row == key)?,
        }
        now(self.inner.get(table, partition, key, consistency))
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        match consistency {
            Consistency::Serial => self.settle(table, &partition)?,
            Consistency::Quorum => self.repair(table, &partition, |row| contains(&bounds, row))?,
        }
        now(self.inner.scan(table, partition, bounds, limit, consistency))
    }
}

#[cfg(test)]
mod tests {
    use polity_core::SystemClock;
    use polity_store::{schema, values_of};
    use polity_store_local::LocalStore;
    use tokio::time::Instant;

    use super::{
        super::{clock::SimClock, weather::Weather},
        *,
    };

    fn partition() -> Values {
        values_of![1_i64, bytes::Bytes::from_static(&[7; 16]), 0_i64]
    }

    fn row(seq: i64) -> Row {
        Row::new(values_of![seq], bytes::Bytes::from_static(b"\x01")).guarded(seq.min(9), 1)
    }

    /// What is seen by a read of one row, by so many tries.
    async fn seen(store: &TornStore, seq: i64, tries: usize) -> bool {
        for _ in 0..tries {
            let found = store.get(&schema::LOG, partition(), values_of![seq], Consistency::Quorum).await.unwrap();
            if found.is_some() {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_read_brings_what_it_reads_and_a_serial_one_the_rest() {
        let memory = LocalStore::memory(Arc::new(SystemClock::new()), &Chance::of(1, "store")).unwrap();
        let clock = |_: &Chance| SimClock::new(Instant::now(), 0);
        let stamped = StampedStore::new((memory, Arc::new(Weather::untold())), clock, Chance::of(1, "times"));
        let store = TornStore::new(stamped, Chance::of(1, "torn"));
        let condition = Condition { row: values_of![schema::HEAD_ROW], expect: Expect::Absent };
        let mut one = row(1);
        one.guards = None;
        let changes = vec![Change::Put(one), Change::Put(row(schema::HEAD_ROW))];
        store.tear(&schema::LOG, partition(), condition, changes).unwrap();
        assert!(seen(&store, schema::HEAD_ROW, 100).await, "somebody reads the node that has it");
        let all = |consistency| store.scan(&schema::LOG, partition(), Bounds::all(), 10, consistency);
        let inner = store.inner.scan(&schema::LOG, partition(), Bounds::all(), 10, Consistency::Quorum).await.unwrap();
        assert_eq!(inner.rows.len(), 1, "the head alone");
        assert_eq!(all(Consistency::Serial).await.unwrap().rows.len(), 2);
    }
}
