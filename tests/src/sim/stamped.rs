//! Writes go by clocks that disagree, as in a CQL store: of two plain writes of a row, or a write and a deletion, the one with the later
//! time stays, whatever came last. A plain write bears the time of the process that asked for it, a conditional one that of the server
//! that decided it (and a later one than those before it in its partition). The deletion of a partition bears a time a minute
//! ahead, as the CQL store gives it: until then, nothing that is written there is seen, though it is answered as made.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_core::Clock as _;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Kind, Row, Store, StoreError, Table, Values, Wrap,
    Write, WriteKind,
};

use super::{chance::Chance, clock::SimClock, torn::now, weather::Weather};

/// Servers that decide conditional writes.
const COORDINATORS: u64 = 3;
/// The deletion of a partition is so much ahead of the time.
const AHEAD_US: i64 = 60_000_000;

/// A partition: the table's number and the key.
type Place = (u8, Values);

/// The store in memory. See the module. Times are microseconds since 1970.
pub(super) struct StampedStore {
    inner: Arc<dyn Store>,
    weather: Arc<Weather>,
    coordinators: Vec<SimClock>,
    chance: Chance,
    times: Mutex<Times>,
}

/// What was written when. What isn't here was written before all of it.
#[derive(Default, Clone)]
struct Times {
    /// Each plain row.
    plain: BTreeMap<(Place, Values), i64>,
    /// The last conditional write of each partition.
    decided: BTreeMap<Place, i64>,
    /// When each partition that was deleted was.
    deleted: BTreeMap<Place, i64>,
}

impl StampedStore {
    /// Goes by the clocks of servers, which `off_ms` gives.
    pub(super) fn new(
        (inner, weather): (Arc<dyn Store>, Arc<Weather>),
        clock: impl Fn(&Chance) -> SimClock,
        chance: Chance,
    ) -> Arc<Self> {
        let coordinators = (0..COORDINATORS).map(|_| clock(&chance)).collect();
        Arc::new(Self { inner, weather, coordinators, chance, times: Mutex::default() })
    }

    /// It is the same store opened again: what was written when is known.
    pub(super) fn goes_on_from(&self, other: &Self) {
        self.times.lock().clone_from(&other.times.lock());
    }

    /// Plain writes and projections, the plain ones asked for at these times.
    pub(super) async fn put_at(&self, writes: Vec<(Write, i64)>, durability: Durability) -> Result<(), StoreError> {
        let mut stay = Vec::with_capacity(writes.len());
        for (write, time) in writes {
            let stays = match write.kind {
                WriteKind::Projection(_) => !self.is_deleted(&write),
                _ => self.is_later(&write, time)?,
            };
            if stays {
                stay.push(write);
            } else {
                self.weather.count("writes that were overtaken");
            }
        }
        self.inner.put(stay, durability).await
    }

    /// Whether a projection is written where all was deleted: that bears the time, which is above every stamp.
    fn is_deleted(&self, write: &Write) -> bool {
        self.times.lock().deleted.contains_key(&(write.table.number, write.partition.clone()))
    }

    /// Whether a plain write is later than what is there; from now on it is what is there.
    fn is_later(&self, write: &Write, time: i64) -> Result<bool, StoreError> {
        let Write { table, partition, row, kind } = write;
        let place = (table.number, partition.clone());
        let name = (place.clone(), row.key.clone());
        let mut times = self.times.lock();
        let last = times.plain.get(&name).copied().max(times.deleted.get(&place).copied());
        let stays = match last {
            Some(last) if time == last && times.plain.get(&name) == Some(&last) && *kind != WriteKind::Delete => {
                let read = self.inner.get(table, partition.clone(), row.key.clone(), Consistency::Quorum);
                // A deletion wins, else the greater value.
                now(read)?.is_some_and(|there| row.value > there.value)
            }
            Some(last) => time > last || (time == last && *kind == WriteKind::Delete),
            None => true,
        };
        if stays {
            times.plain.insert(name, time);
        }
        Ok(stays)
    }

    /// Deletes a partition, as it was asked for at this time.
    pub(super) async fn drop_at(
        &self,
        table: &'static Table,
        partition: Values,
        asked_for: i64,
    ) -> Result<(), StoreError> {
        let (place, time) = ((table.number, partition.clone()), asked_for + AHEAD_US);
        {
            let mut times = self.times.lock();
            let known = times.deleted.entry(place.clone()).or_insert(time);
            *known = time.max(*known);
            let decided = times.decided.get(&place).copied().unwrap_or(i64::MIN);
            assert!(decided <= time, "no clock is a minute ahead of another one");
        }
        if table.kind != Kind::Plain {
            return self.inner.drop_partition(table, partition).await;
        }
        let all = self.inner.scan(table, partition.clone(), Bounds::all(), usize::MAX, Consistency::Quorum).await?;
        let deletes = all.rows.into_iter().map(|row| {
            let row = Row::new(row.key, bytes::Bytes::new());
            (Write { table, partition: partition.clone(), row, kind: WriteKind::Delete }, time)
        });
        self.put_at(deletes.collect(), Durability::Acknowledged).await
    }

    /// The time of a conditional write, and whether the deletion of its partition is later.
    fn decide(&self, place: &Place) -> (i64, bool) {
        let at = usize::try_from(self.chance.below(COORDINATORS)).unwrap_or_default();
        let clock_us = i64::try_from(self.coordinators[at].now_ms()).unwrap_or_default() * 1000;
        let times = self.times.lock();
        let last = times.decided.get(place).map_or(clock_us, |last| last + 1);
        let time = clock_us.max(last);
        (time, times.deleted.get(place).is_some_and(|deleted| time <= *deleted))
    }
}

#[async_trait]
impl Wrap for StampedStore {
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
        let place = (table.number, partition.clone());
        let (time, hidden) = self.decide(&place);
        let outcome = if hidden {
            let row = self.inner.get(table, partition, condition.row, Consistency::Serial).await?;
            let guards = row.as_ref().and_then(|row| row.guards);
            let holds = match condition.expect {
                Expect::Absent => row.is_none(),
                Expect::Guards(one, other) => guards == Some((one, other)),
            };
            if holds {
                self.weather.count("conditional writes hidden by a deletion");
            }
            if holds { Cas::Applied } else { Cas::Refused(row) }
        } else {
            self.inner.cas(table, partition, condition, changes).await?
        };
        if outcome == Cas::Applied {
            self.times.lock().decided.insert(place, time);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use polity_core::{SystemClock, TenantId};
    use polity_store::{schema, values_of};
    use polity_store_local::LocalStore;
    use tokio::time::Instant;

    use super::*;

    fn store() -> Arc<StampedStore> {
        let memory = LocalStore::memory(Arc::new(SystemClock::new()), &Chance::of(1, "store")).unwrap();
        let clock = |_: &Chance| SimClock::new(Instant::now(), 0);
        StampedStore::new((memory, Arc::new(Weather::untold())), clock, Chance::of(1, "times"))
    }

    fn user() -> Values {
        values_of![TenantId::new(1), "@a:b"]
    }

    fn filter(value: &'static str, kind: WriteKind) -> Write {
        let row = Row::new(values_of!["f"], Bytes::from_static(value.as_bytes()));
        Write { table: &schema::FILTERS, partition: user(), row, kind }
    }

    async fn there(store: &StampedStore) -> Option<Bytes> {
        let row = store.get(&schema::FILTERS, user(), values_of!["f"], Consistency::Quorum).await.unwrap();
        row.map(|row| row.value)
    }

    #[tokio::test]
    async fn the_later_time_stays_whatever_comes_last() {
        let (store, forever) = (store(), WriteKind::Plain { ttl_s: 0 });
        let put = async |value, kind, time| {
            store.put_at(vec![(filter(value, kind), time)], Durability::Acknowledged).await.unwrap();
            there(&store).await
        };
        assert_eq!(put("b", forever, 10).await.unwrap(), "b");
        assert_eq!(put("a", forever, 9).await.unwrap(), "b");
        assert_eq!(put("a", forever, 10).await.unwrap(), "b", "of two at one time the greater");
        assert_eq!(put("", WriteKind::Delete, 9).await.unwrap(), "b");
        assert_eq!(put("", WriteKind::Delete, 10).await, None, "a deletion wins");
        assert_eq!(put("c", forever, 10).await, None);
        assert_eq!(put("c", forever, 11).await.unwrap(), "c");
        store.drop_at(&schema::FILTERS, user(), 0).await.unwrap();
        assert_eq!(put("d", forever, AHEAD_US).await, None);
        assert_eq!(put("d", forever, AHEAD_US + 1).await.unwrap(), "d");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_where_all_was_deleted_is_seen_a_minute_later() {
        let store = store();
        let log = || values_of![TenantId::new(1), Bytes::from_static(&[7; 16]), 0_i64];
        let append = async || {
            let head = Row::new(values_of![schema::HEAD_ROW], Bytes::from_static(b"\x01")).guarded(1, 0);
            let condition = Condition { row: head.key.clone(), expect: Expect::Absent };
            store.cas(&schema::LOG, log(), condition, vec![Change::Put(head)]).await.unwrap()
        };
        let head = || store.get(&schema::LOG, log(), values_of![schema::HEAD_ROW], Consistency::Serial);
        assert_eq!(append().await, Cas::Applied);
        let now_us = i64::try_from(store.coordinators[0].now_ms()).unwrap() * 1000;
        store.drop_at(&schema::LOG, log(), now_us).await.unwrap();
        for _ in 0..2 {
            assert_eq!((append().await, head().await.unwrap()), (Cas::Applied, None));
        }
        tokio::time::advance(std::time::Duration::from_millis(60_001)).await;
        assert_eq!(append().await, Cas::Applied);
        assert!(head().await.unwrap().is_some());
    }
}
