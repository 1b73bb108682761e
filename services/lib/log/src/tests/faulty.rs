//! A store in memory without threads, so that a seed gives one order of events; with faults, as each process sees them.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// A small generator of numbers from a seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Randomness of a process, from a seed.
pub(super) struct Seeded(Mutex<Dice>);

impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Dice::new(seed)))
    }
}

impl polity_core::Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock();
        bytes.fill_with(|| u8::try_from(dice.below(256)).unwrap());
    }
}

/// A conditional write that hasn't started.
type Unstarted = (&'static Table, Values, Condition, Vec<Change>);

/// What all processes share.
pub(super) struct World {
    tables: Mutex<BTreeMap<(u8, Values), BTreeMap<Values, Row>>>,
    pub(super) dice: Mutex<Dice>,
    /// Writes that start only after somebody has read serially.
    after_read: Mutex<Vec<Unstarted>>,
    /// Writes that nobody waits for any more and that start some time.
    late: Mutex<Vec<Unstarted>>,
    /// Whether anything goes wrong at all.
    pub(super) faults: AtomicBool,
}

/// The store as one process sees it.
pub(super) struct View {
    pub(super) world: Arc<World>,
    /// A process that was killed gets no further than its next step with the store.
    pub(super) killed: AtomicBool,
    /// Whether it may be killed at any step.
    pub(super) mortal: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            tables: Mutex::default(),
            dice: Mutex::new(Dice::new(seed)),
            after_read: Mutex::default(),
            late: Mutex::default(),
            faults: AtomicBool::new(false),
        })
    }

    pub(super) fn view(self: &Arc<Self>, mortal: bool) -> Arc<View> {
        Arc::new(View { world: Arc::clone(self), killed: AtomicBool::new(false), mortal })
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    /// Whether something goes wrong that does so once in so many times.
    fn goes_wrong(&self, times: u64) -> bool {
        self.faults.load(Ordering::Relaxed) && self.dice.lock().once_in(times)
    }

    /// Lets all late writes start.
    pub(super) fn land_all(&self) {
        let writes: Vec<Unstarted> = self.late.lock().drain(..).chain(self.after_read.lock().drain(..)).collect();
        writes.into_iter().for_each(|write| drop(self.apply(write)));
    }

    /// Lets one of the late writes start, if there is one.
    pub(super) fn land_one(&self) {
        let write = {
            let mut late = self.late.lock();
            if late.is_empty() {
                return;
            }
            let at = usize::try_from(self.dice.lock().below(late.len() as u64)).unwrap();
            late.swap_remove(at)
        };
        self.apply(write);
    }

    pub(super) fn put_row(&self, table: &'static Table, partition: Values, row: Row) {
        self.tables.lock().entry((table.number, partition)).or_default().insert(row.key.clone(), row);
    }

    pub(super) fn rows(&self, table: &'static Table, partition: Values) -> Vec<Row> {
        self.tables.lock().get(&(table.number, partition)).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    fn apply(&self, (table, partition, condition, changes): Unstarted) -> Cas {
        let mut tables = self.tables.lock();
        let rows = tables.entry((table.number, partition)).or_default();
        let now = rows.get(&condition.row);
        let holds = match condition.expect {
            Expect::Absent => now.is_none(),
            Expect::Guards(first, second) => now.is_some_and(|row| row.guards == Some((first, second))),
        };
        if !holds {
            return Cas::Refused(now.cloned());
        }
        for change in changes {
            match change {
                Change::Put(row) => drop(rows.insert(row.key.clone(), row)),
                Change::DeleteRange { first, last } => rows.retain(|key, _| key[0] < first || key[0] > last),
            }
        }
        Cas::Applied
    }
}

impl View {
    /// Somewhere between two steps: other processes run; or this one is stopped for long, or for ever.
    async fn step(&self) {
        let turns = match () {
            () if self.world.goes_wrong(60) => 20 + self.world.below(150),
            () => self.world.below(4),
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.may_die(300);
        if self.killed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// It is killed once in so many times.
    fn may_die(&self, times: u64) {
        if self.mortal && self.world.goes_wrong(times) {
            self.killed.store(true, Ordering::Relaxed);
        }
    }

    fn unavailable(&self) -> Result<(), StoreError> {
        if self.world.goes_wrong(80) { Err(StoreError::Unavailable("a test's".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for View {
    fn incarnation(&self) -> IncarnationId {
        IncarnationId::new([9; 16])
    }

    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.step().await;
        self.unavailable()?;
        let write = (table, partition, condition, changes);
        let unknown = Err(StoreError::Unknown("a test's".into()));
        let outcome = if self.world.goes_wrong(6) {
            // The worst moment.
            self.may_die(4);
            match self.world.below(4) {
                0 => drop(self.world.apply(write)),
                1 => self.world.late.lock().push(write),
                2 => self.world.after_read.lock().push(write),
                _ => {}
            }
            unknown
        } else {
            Ok(self.world.apply(write))
        };
        self.step().await;
        outcome
    }

    async fn put(&self, writes: Vec<Write>, _durability: Durability) -> Result<(), StoreError> {
        self.step().await;
        self.unavailable()?;
        // Each is a write of its own: some may be missing.
        let some = if self.world.goes_wrong(20) { self.world.below(writes.len() as u64 + 1) } else { u64::MAX };
        for write in writes.into_iter().take(usize::try_from(some).unwrap_or(usize::MAX)) {
            let mut tables = self.world.tables.lock();
            let rows = tables.entry((write.table.number, write.partition)).or_default();
            let WriteKind::Projection(stamp) = write.kind else { panic!("the engine writes projections only") };
            let row = Row { stamp: Some(stamp), ..write.row };
            if rows.get(&row.key).is_none_or(|now| (now.stamp, &now.value) < (row.stamp, &row.value)) {
                rows.insert(row.key.clone(), row);
            }
        }
        self.step().await;
        if some == u64::MAX { Ok(()) } else { Err(StoreError::Unavailable("a test's".into())) }
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.step().await;
        self.unavailable()?;
        let row = self.world.tables.lock().get(&(table.number, partition)).and_then(|rows| rows.get(&key)).cloned();
        if consistency == Consistency::Serial && table.number == schema::LOG.number {
            let held: Vec<Unstarted> = self.world.after_read.lock().drain(..).collect();
            self.world.late.lock().extend(held);
            if self.world.below(2) == 0 {
                // The write that a serial read doesn't fence starts right after it.
                self.world.land_one();
            }
        }
        self.step().await;
        Ok(row)
    }

    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        _consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.step().await;
        self.unavailable()?;
        let inside = |key: &Values| {
            (match &bounds.from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
            }) && (match &bounds.to {
                Bound::Unbounded => true,
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
            })
        };
        let mut rows = self.world.rows(table, partition);
        rows.retain(|row| inside(&row.key));
        if bounds.reverse {
            rows.reverse();
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        self.step().await;
        Ok(Page { rows, more })
    }

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        self.step().await;
        self.unavailable()?;
        self.world.tables.lock().remove(&(table.number, partition));
        Ok(())
    }
}
