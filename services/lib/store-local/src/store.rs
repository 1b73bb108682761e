//! The store: the six operations over an engine and its writer.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use polity_core::{Clock, IncarnationId, Random};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Direction, Durability, Page, Row, Store, StoreError, Table, Values,
    Write, WriteKind, check, life, schema, values_of,
};
use tokio::sync::oneshot;

use crate::{
    disk::{DiskEngine, OpenError},
    engine::Engine,
    keys,
    memory::MemoryEngine,
    record::Record,
    request::{KeyChange, PlainWrite, Request, delete_range},
    writer::Writer,
};

/// Rows of one page have at most this many bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How much memory and journal the disk engine may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes of writes kept in memory before they are sorted into files.
    pub write_buffer_bytes: u64,
    /// Bytes of journal before that is forced.
    pub journal_bytes: u64,
}

/// The embedded store.
pub struct LocalStore {
    /// Ended before the engine.
    writer: Writer,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    incarnation: IncarnationId,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, write_buffer_bytes: 32 << 20, journal_bytes: 128 << 20 }
    }
}

// === impl LocalStore ===

impl LocalStore {
    /// Opens the store in the folder `path`, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`]: nothing was overwritten.
    pub fn open(
        path: &Path,
        options: &Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Arc<Self>, OpenError> {
        let engine = DiskEngine::open(path, options, Arc::clone(&clock))?;
        let damaged = |error: StoreError| OpenError::Damaged { path: path.to_path_buf(), what: error.to_string() };
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        Self::new(Arc::new(engine), clock, random).map_err(io)?.map_err(damaged)
    }

    /// A store in memory.
    ///
    /// # Errors
    /// None that an empty store has.
    pub fn memory(clock: Arc<dyn Clock>, random: &dyn Random) -> Result<Arc<Self>, StoreError> {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        let incarnation = life_of(&*engine, random)?;
        let writer = Writer::without_thread(Arc::clone(&engine));
        Ok(Arc::new(Self { writer, engine, clock, incarnation }))
    }

    /// A copy of a store in memory, as it stands, opened anew: what is written to one isn't in the other. `None` of a store on disk.
    #[must_use]
    pub fn copy(&self) -> Option<Arc<Self>> {
        let engine = self.engine.copy()?;
        let incarnation = stored_life(&*engine).ok()??;
        let writer = Writer::without_thread(Arc::clone(&engine));
        Some(Arc::new(Self { writer, engine, clock: Arc::clone(&self.clock), incarnation }))
    }

    /// Takes over what another store has in a table by now, of the keys that `which` names: as a copy that is made while the other one
    /// is in use, piece by piece. For stores in memory that nobody uses yet.
    ///
    /// # Errors
    /// When one of them can't be read or written.
    pub fn take_over(&self, other: &Self, table: &Table, which: impl Fn(&[u8]) -> bool) -> Result<(), StoreError> {
        let mut taken = Vec::new();
        other.engine.range(&[table.number], &keys::successor(vec![table.number]), false, &mut |(key, value)| {
            if which(&key) {
                taken.push((key.to_vec(), Some(value)));
            }
            true
        })?;
        self.engine.write(taken, true)
    }

    /// A store over an engine.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> std::io::Result<Result<Arc<Self>, StoreError>> {
        let incarnation = match life_of(&*engine, random) {
            Ok(incarnation) => incarnation,
            Err(error) => return Ok(Err(error)),
        };
        let writer = Writer::start(Arc::clone(&engine))?;
        Ok(Ok(Arc::new(Self { writer, engine, clock, incarnation })))
    }

    /// Returns when a write to disk has failed, with the reason. Nothing more is written then: what is on disk is whole, and the process
    /// should end and start again.
    pub async fn failed(&self) -> String {
        self.writer.failed().await
    }

    /// Seconds since 1970.
    fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }

    async fn submit<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.submit(request(reply))?;
        answer.await.map_err(|_| StoreError::Unknown("the store's writer has ended".to_owned()))?
    }

    fn plain_write(&self, write: Write) -> PlainWrite {
        let Write { table, partition, row, kind } = write;
        let key = keys::row(table, &keys::partition(table, &partition), &row.key);
        let (stamp, record) = match kind {
            WriteKind::Projection(stamp) => (Some(stamp), Some(Record::encode(&row, Some(stamp), 0))),
            WriteKind::Plain { ttl_s: 0 } => (None, Some(Record::encode(&row, None, 0))),
            WriteKind::Plain { ttl_s } => (None, Some(Record::encode(&row, None, self.now_s() + u64::from(ttl_s)))),
            WriteKind::Delete => (None, None),
        };
        PlainWrite { table, key, stamp, record }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn incarnation(&self) -> IncarnationId {
        self.incarnation
    }

    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        check::cas(table, &partition, &condition, &changes)?;
        let partition = keys::partition(table, &partition);
        let changes: Vec<_> = changes
            .into_iter()
            .map(|change| match change {
                Change::Put(row) => {
                    KeyChange::Put(keys::row(table, &partition, &row.key), Record::encode(&row, None, 0))
                }
                Change::DeleteRange { first, last } => delete_range(table, &partition, first, last),
            })
            .collect();
        let row = (keys::row(table, &partition, &condition.row), condition.row);
        let expect = condition.expect;
        self.submit(|reply| Request::Cas { table, row, expect, changes, reply }).await
    }

    async fn put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        writes.iter().try_for_each(check::write)?;
        if writes.is_empty() {
            return Ok(());
        }
        let writes: Vec<_> = writes.into_iter().map(|write| self.plain_write(write)).collect();
        if durability == Durability::Ahead && writes.iter().all(|write| write.stamp.is_none()) {
            // The writer takes what waits in order, and after a failed commit nothing any more.
            return self.writer.submit_ahead(writes);
        }
        let writes = match durability {
            Durability::Rebuildable => match self.writer.put_now(writes) {
                Ok(done) => return done,
                Err(writes) => writes,
            },
            Durability::Acknowledged | Durability::Ahead => writes,
        };
        self.submit(|reply| Request::Put { writes, durability, reply: Some(reply) }).await
    }

    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        _consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        // A hit is in memory almost always; a miss is one read of a local disk, which isn't worth another thread.
        check::partition(table, &partition)?;
        check::key(table, &key)?;
        let stored = self.engine.get(&keys::row(table, &keys::partition(table, &partition), &key))?;
        let record = stored.map(|bytes| Record::decode(table, bytes)).transpose()?;
        let record = record.filter(|record| !record.is_expired(self.now_s()));
        record.map(|record| record.into_row(table, key)).transpose()
    }

    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        _consistency: Consistency,
    ) -> Result<Page, StoreError> {
        check::partition(table, &partition)?;
        check::bounds(table, &bounds)?;
        let prefix = keys::partition(table, &partition);
        let (begin, end) = keys::range(table, &prefix, &bounds);
        let reverse = bounds.reverse != (table.direction == Direction::Descending);
        let now_s = self.now_s();
        let (mut page, mut bytes, mut failed) = (Page::default(), 0, None);
        self.engine.range(&begin, &end, reverse, &mut |(key, value)| {
            match decode_row(table, &key[prefix.len()..], value, now_s) {
                Ok(Some(_)) if page.rows.len() >= limit.max(1) || bytes > PAGE_BYTES => {
                    page.more = true;
                    return false;
                }
                Ok(Some(row)) => {
                    bytes += row.size();
                    page.rows.push(row);
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(page), Err)
    }

    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        check::drop_partition(table, &partition)?;
        let prefix = keys::partition(table, &partition);
        let range = (prefix.clone(), keys::successor(prefix));
        self.submit(|reply| Request::Drop { range, reply }).await
    }
}

/// A stored pair as a row; `None` if it has expired.
fn decode_row(table: &'static Table, clustering: &[u8], value: Bytes, now_s: u64) -> Result<Option<Row>, StoreError> {
    let record = Record::decode(table, value)?;
    if record.is_expired(now_s) {
        return Ok(None);
    }
    record.into_row(table, keys::clustering(table, clustering)?).map(Some)
}

/// The life that the store is in; a new store gets one.
fn life_of(engine: &dyn Engine, random: &dyn Random) -> Result<IncarnationId, StoreError> {
    if let Some(life) = stored_life(engine)? {
        return Ok(life);
    }
    let incarnation = IncarnationId::new(random.bytes());
    let value: Bytes = [&[1_u8][..], incarnation.as_bytes()].concat().into();
    let record = Record::encode(&Row::new(Values::new(), value).guarded(1, 0), None, 0);
    engine.write(vec![(life_key(), Some(record))], true)?;
    Ok(incarnation)
}

fn life_key() -> Vec<u8> {
    let partition: Values = values_of![life::LIFE];
    keys::row(&schema::META, &keys::partition(&schema::META, &partition), &[])
}

fn stored_life(engine: &dyn Engine) -> Result<Option<IncarnationId>, StoreError> {
    let corrupt = || StoreError::corrupt(schema::META.name, "the store's incarnation");
    let Some(bytes) = engine.get(&life_key())? else { return Ok(None) };
    let row = Record::decode(&schema::META, bytes)?.into_row(&schema::META, Values::new())?;
    let id = row.value.get(1..).ok_or_else(corrupt)?;
    IncarnationId::from_slice(id).map(Some).map_err(|_| corrupt())
}
