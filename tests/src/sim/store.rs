//! The store as a process reaches it: operations take time there and back, may be refused, may not be answered, and land whether or not
//! whoever asked for them is still there, some of them much later.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use polity_core::Clock as _;
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Page, Row, Store, StoreError, Table, Values, Wrap, Write,
    WriteKind, schema,
};
use tokio::sync::oneshot;

use super::{chance::Chance, detached, later, nap, process::Process, torn::TornStore, weather::Weather};

/// Whoever isn't answered gives up after so long.
const GIVES_UP_MS: (u64, u64) = (50, 1_000);
/// Who is to die while it waits lives so long, at most.
const DIES_MS: u64 = 50;
/// What lands late lands so much later.
const LATE_MS: (u64, u64) = (1, 15_000);

/// See the module.
pub(super) struct SimStore {
    store: Arc<TornStore>,
    weather: Arc<Weather>,
    /// Whose store it is.
    process: Arc<Process>,
    chance: Chance,
    /// Plain writes may be late, too: their time says what stays.
    plain_late: bool,
    /// The process is of the next version.
    next: bool,
    /// The time of the last write that bears one, in microseconds since 1970.
    last_us: AtomicI64,
}

/// How a write goes.
enum Fate {
    Done,
    Refused,
    /// It lands whole, or in part, and there is no answer.
    Unanswered,
    /// There is no answer, and it lands after so long, or never.
    Late(Option<u64>),
    /// There is no answer; it is decided, and a part of it is seen before the whole, which is there after so long, or whenever somebody settles it.
    Torn(Option<u64>),
}

impl SimStore {
    pub(super) fn new(
        store: Arc<TornStore>,
        (weather, process): (Arc<Weather>, Arc<Process>),
        chance: Chance,
        (plain_late, next): (bool, bool),
    ) -> Self {
        Self { store, weather, process, chance, plain_late, next, last_us: AtomicI64::new(0) }
    }

    /// The time that a plain write bears: by this process's clock, and later than the one before.
    fn time_us(&self) -> i64 {
        let now_us = i64::try_from(self.process.clock.now_ms()).unwrap_or_default() * 1000;
        let time_us = now_us.max(self.last_us.load(Ordering::Relaxed) + 1);
        self.last_us.store(time_us, Ordering::Relaxed);
        time_us
    }

    fn trip_ms(&self) -> u64 {
        // Most operations are quick, so that what waits for two of them isn't always in the same order.
        let most = self.weather.now(|now| now.store_ms);
        if self.chance.one_in(2) { 0 } else { self.chance.between(0, most) }
    }

    /// How much longer a trip is of who reads this table.
    fn further_ms(&self, table: &Table) -> u64 {
        let most = if table.number == schema::LOG.number { self.weather.now(|now| now.log_reads_ms) } else { 0 };
        if most == 0 || self.chance.one_in(2) { 0 } else { self.chance.between(0, most) }
    }

    fn fate(&self, table: &Table, can_be_late: bool, can_be_torn: bool) -> Fate {
        let (refuses, unanswered, late, torn) =
            self.weather.now(|now| (now.store_refuses, now.store_unanswered, now.store_late, now.store_torn));
        let (fate, told) = if self.chance.per_mille(refuses) {
            (Fate::Refused, "writes refused")
        } else if self.chance.per_mille(unanswered) {
            (Fate::Unanswered, "writes unanswered")
        } else if can_be_late && self.chance.per_mille(late) {
            (Fate::Late(self.later()), "writes late")
        } else if can_be_torn && self.chance.per_mille(torn) {
            (Fate::Torn(self.later()), "writes torn")
        } else {
            (Fate::Done, "writes")
        };
        self.weather.count(told);
        if !matches!(fate, Fate::Done) {
            let comes = match fate {
                Fate::Late(Some(ms)) | Fate::Torn(Some(ms)) => format!(", there in {ms} ms"),
                Fate::Late(None) | Fate::Torn(None) => ", never there".to_owned(),
                _ => String::new(),
            };
            self.weather.note(&self.process.name, format_args!("{told} ({}){comes}", table.name));
        }
        fate
    }

    /// After how long something is there that is late, if ever.
    fn later(&self) -> Option<u64> {
        let comes = !self.chance.one_in(4);
        comes.then(|| self.chance.between(LATE_MS.0, LATE_MS.1))
    }

    /// Makes a write, which lands whatever becomes of this process meanwhile.
    async fn write<T: Send + 'static>(
        &self,
        fate: Fate,
        land: impl FnOnce(Arc<TornStore>) -> BoxFuture<'static, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (store, there, back) = (Arc::clone(&self.store), self.trip_ms(), self.trip_ms());
        let (lands_in, answered) = match fate {
            Fate::Refused => return self.refuse().await,
            Fate::Done => (Some(there), true),
            Fate::Unanswered => (Some(there), false),
            Fate::Late(lands_in) | Fate::Torn(lands_in) => (lands_in, false),
        };
        if answered && there == 0 {
            // It is there before anything else happens, whatever becomes of whoever asked.
            let outcome = land(store).await;
            nap(back).await;
            return outcome;
        }
        let (reply, answer) = oneshot::channel();
        if let Some(lands_in) = lands_in {
            let coming = self.weather.coming();
            detached(async move {
                nap(lands_in).await;
                let outcome = land(store).await;
                drop(coming);
                if answered {
                    nap(back).await;
                    // Whoever asked may be gone.
                    let _ = reply.send(outcome);
                }
            });
        }
        if answered {
            return answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store has ended".to_owned())));
        }
        self.give_up().await
    }

    /// No answer comes.
    async fn give_up<T>(&self) -> Result<T, StoreError> {
        nap(self.chance.between(GIVES_UP_MS.0, GIVES_UP_MS.1)).await;
        Err(StoreError::Unknown("a write timed out".to_owned()))
    }

    async fn refuse<T>(&self) -> Result<T, StoreError> {
        nap(self.trip_ms()).await;
        Err(StoreError::Unavailable("the store refuses".to_owned()))
    }

    /// Reads: there, then back.
    async fn read<T>(&self, table: &Table, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.weather.count("reads");
        nap(self.trip_ms() + self.further_ms(table)).await;
        if self.chance.per_mille(self.weather.now(|now| now.store_refuses)) {
            return self.refuse().await;
        }
        let outcome = read.await;
        nap(self.trip_ms() + self.further_ms(table)).await;
        outcome
    }
}

/// What makes the rest of a torn write.
fn settled(
    table: &'static Table,
    partition: Values,
) -> impl FnOnce(Arc<TornStore>) -> BoxFuture<'static, Result<Cas, StoreError>> + Send + 'static {
    move |store| Box::pin(async move { store.settle(table, &partition).map(|()| Cas::Applied) })
}

#[async_trait]
impl Wrap for SimStore {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        let (table, changes) = if self.next { later::changes(table, changes) } else { (table, changes) };
        let fate = self.fate(table, true, true);
        if let Fate::Late(_) = fate
            && self.weather.now(|now| now.dies_waiting)
        {
            let (process, lives_ms) = (Arc::clone(&self.process), self.chance.between(0, DIES_MS));
            let doomed = self.weather.now(|now| now.all_die_waiting).then(|| Arc::clone(&self.weather));
            detached(async move {
                nap(lives_ms).await;
                match doomed {
                    Some(all) => all.dooms.notify_one(),
                    None => process.kill(),
                }
            });
        }
        if let Fate::Torn(settled_in) = fate {
            nap(self.trip_ms()).await;
            self.store.tear(table, partition.clone(), condition, changes)?;
            return self.write(Fate::Late(settled_in), settled(table, partition)).await;
        }
        self.write(fate, move |store| Box::pin(async move { store.cas(table, partition, condition, changes).await }))
            .await
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let can_be_late = self.plain_late || writes.iter().all(|write| matches!(write.kind, WriteKind::Projection(_)));
        let Some(first) = writes.first().map(|write| write.table) else { return Ok(()) };
        let writes = if self.next { later::writes(writes) } else { writes };
        let mut writes: Vec<(Write, i64)> = writes.into_iter().map(|write| (write, self.time_us())).collect();
        if self.weather.now(|now| now.store_unanswered) > 0 && self.chance.one_in(20) {
            // Each row is a write of its own: some land, and the rest doesn't.
            let kept = self.chance.some(std::mem::take(&mut writes), 0);
            let fate = self.fate(first, false, false);
            self.write(fate, move |store| Box::pin(async move { store.put_at(kept, durability).await })).await?;
            return Err(StoreError::Unknown("some rows timed out".to_owned()));
        }
        let fate = self.fate(first, can_be_late, false);
        let rest = if writes.len() > 1 && self.chance.one_in(4) {
            // In whatever order.
            if self.chance.one_in(2) {
                writes.reverse();
            }
            let before = usize::try_from(self.chance.between(1, writes.len() as u64 - 1)).unwrap_or(1);
            writes.split_off(before)
        } else {
            Vec::new()
        };
        let between_ms = self.trip_ms();
        let land = move |store: Arc<TornStore>| -> BoxFuture<'static, Result<(), StoreError>> {
            Box::pin(async move {
                store.put_at(writes, durability).await?;
                if rest.is_empty() {
                    return Ok(());
                }
                // Each row is a write of its own: some are seen before the others.
                nap(between_ms).await;
                store.put_at(rest, durability).await
            })
        };
        self.write(fate, land).await
    }

    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        self.read(table, self.store.get(table, partition, key, consistency)).await
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.read(table, self.store.scan(table, partition, bounds, limit, consistency)).await
    }

    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        let (fate, time) = (self.fate(table, self.plain_late, false), self.time_us());
        self.write(fate, move |store| Box::pin(async move { store.drop_at(table, partition, time).await })).await
    }
}
