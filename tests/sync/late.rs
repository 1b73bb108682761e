//! A store whose membership rows are seen late, in any order, or not at all: what a projection may do.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_store::{
    Bounds, Consistency, Durability, Marks, Page, Row, Store, StoreError, Table, Values, Wrap, Write, schema,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A row of the projection, by its partition and key.
type Name = (Values, Values);

/// See the module.
pub(crate) struct LateStore {
    inner: Arc<dyn Store>,
    marks: Arc<Marks>,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    /// How many of a hundred reads of a row show it as it once was.
    late: u32,
    /// All values that rows ever had.
    past: HashMap<Name, Vec<Row>>,
}

impl LateStore {
    pub(crate) fn new(inner: Arc<dyn Store>, marks: Arc<Marks>) -> Arc<Self> {
        let state = State { random: StdRng::seed_from_u64(0), late: 0, past: HashMap::new() };
        Arc::new(Self { inner, marks, state: Mutex::new(state) })
    }

    /// From now on so many of a hundred reads of a row are late.
    pub(crate) fn be_late(&self, percent: u32, seed: u64) {
        let mut state = self.state.lock();
        state.late = percent;
        state.random = StdRng::seed_from_u64(seed);
    }
}

#[async_trait]
impl Wrap for LateStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let rows: Vec<Name> = writes
            .iter()
            .filter(|write| write.table.name == schema::MEMBERSHIPS.name)
            .map(|write| (write.partition.clone(), write.row.key.clone()))
            .collect();
        self.inner.put(writes, durability).await?;
        for (partition, key) in rows {
            let row = self.inner.get(&schema::MEMBERSHIPS, partition.clone(), key.clone(), Consistency::Quorum).await?;
            self.state.lock().past.entry((partition, key)).or_default().extend(row);
        }
        Ok(())
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        let mut page = self.inner.scan(table, partition.clone(), bounds, limit, consistency).await?;
        if table.name == schema::MEMBERSHIPS.name {
            let State { random, late, past } = &mut *self.state.lock();
            page.rows.retain_mut(|row| {
                if !random.random_ratio(*late, 100) {
                    return true;
                }
                // It comes later than this read, and is announced then.
                self.marks.moved(table, &partition);
                let known = past.get(&(partition.clone(), row.key.clone())).map_or(&[][..], Vec::as_slice);
                let at = random.random_range(0..=known.len());
                match known.get(at) {
                    Some(earlier) => *row = earlier.clone(),
                    None => return false,
                }
                true
            });
        }
        Ok(page)
    }
}
