//! The engine on disk: fjall, a log-structured merge tree.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable};
use polity_core::Clock;
use polity_store::StoreError;

use crate::{
    acknowledged::{self, Acknowledged},
    engine::{Engine, KeyWrite, Pair},
    expired::Expired,
    inspect::{Fault, inspect},
    metric,
    store::Options,
};

/// The one keyspace.
const ROWS: &str = "rows";
/// One thread sorts writes into files while another merges those: a long merge stalls nobody.
const WORKERS: usize = 2;
/// The engine halts a writer at one more of these, and for ever if its workers have died: so it is waited for here.
const SEALED_MAX: usize = 3;
const UNMERGED_MAX: usize = 28;
const WAIT: Duration = Duration::from_millis(2);

/// Why a store can't be opened. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The folder can't be made, read or written.
    #[error("the store in {} can't be read or written: {source}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by a newer version.
    #[error("the store in {} has format {found}, which this version doesn't know", .path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// What is there isn't what was written.
    #[error("the store in {} is damaged: {what}; restore it from a backup", .path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// fjall with one keyspace.
pub(crate) struct DiskEngine {
    database: Database,
    rows: Keyspace,
    /// How many synced writes there were. Only the writer counts.
    synced: AtomicU64,
    acknowledged: Acknowledged,
}

impl DiskEngine {
    pub(crate) fn open(path: &Path, options: &Options, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: path.to_path_buf(), what };
        let noted = acknowledged::read(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => OpenError::Io { path: path.into(), source: error },
        })?;
        inspect(path, noted).map_err(|fault| match fault {
            Fault::InUse => OpenError::InUse(path.to_path_buf()),
            Fault::Io(source) => OpenError::Io { path: path.to_path_buf(), source },
            Fault::Damaged(what) => damaged(what),
        })?;
        // The engine asserts some of what it reads.
        let opened = catch_unwind(AssertUnwindSafe(|| open_engine(path, options, clock)));
        let opened = opened.map_err(|_| damaged("its files contradict each other".into()))?;
        let (database, rows) = opened.map_err(|error| open_error(path, error))?;
        let synced = synced_writes(&rows).map_err(|error| open_error(path, error))?;
        if synced < noted {
            return Err(damaged(format!("{} writes that were acknowledged are missing", noted - synced)));
        }
        let acknowledged = Acknowledged::open(path).map_err(|source| OpenError::Io { path: path.into(), source })?;
        Ok(Self { database, rows, synced: AtomicU64::new(synced), acknowledged })
    }

    /// Waits until the engine can take a write at once; fails when it is broken.
    fn wait_for_room(&self) -> Result<(), StoreError> {
        while !self.has_room() {
            self.database.persist(PersistMode::Buffer).map_err(unwritten)?;
            thread::sleep(WAIT);
        }
        Ok(())
    }

    fn tell_sizes(&self) {
        let kib = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) * 1024.0;
        metrics::gauge!(metric::BLOCK_CACHE_BYTES).set(kib(self.database.cache_size()));
        metrics::gauge!(metric::WRITE_BUFFER_BYTES).set(kib(self.database.write_buffer_size()));
    }
}

fn open_engine(path: &Path, options: &Options, clock: Arc<dyn Clock>) -> Result<(Database, Keyspace), fjall::Error> {
    let expired = Arc::new(Expired::new(clock));
    let database = Database::builder(path)
        .cache_size(options.cache_bytes)
        .max_journaling_size(options.journal_bytes)
        .worker_threads(WORKERS)
        .manual_journal_persist(true)
        .with_compaction_filter_factories(Arc::new(move |name| (name == ROWS).then(|| Arc::clone(&expired) as _)))
        .open()?;
    let memtable = options.write_buffer_bytes / 2;
    let rows = database.keyspace(ROWS, || KeyspaceCreateOptions::default().max_memtable_size(memtable))?;
    Ok((database, rows))
}

/// How many synced writes the store itself knows of.
fn synced_writes(rows: &Keyspace) -> Result<u64, fjall::Error> {
    let number = rows.get(acknowledged::KEY)?;
    Ok(number.and_then(|number| number.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(key).map_err(unread)?.map(Bytes::from))
    }

    fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        each: &mut dyn FnMut(Pair) -> bool,
    ) -> Result<(), StoreError> {
        if begin >= end {
            return Ok(());
        }
        let mut range = self.database.snapshot().range(&self.rows, begin..end);
        let mut next = || if reverse { range.next_back() } else { range.next() };
        while let Some(guard) = next() {
            let (key, value) = guard.into_inner().map_err(unread)?;
            if !each((key.into(), value.into())) {
                break;
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.rows.sealed_memtable_count() < SEALED_MAX && self.rows.l0_table_count() < UNMERGED_MAX
    }

    fn write(&self, writes: Vec<KeyWrite>, sync: bool) -> Result<(), StoreError> {
        self.wait_for_room()?;
        // The batch syncs its journal before it lets anybody read it.
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.rows, key, fjall::Slice::from(value)),
                None => batch.remove(&self.rows, key),
            }
        }
        let number = sync.then(|| self.synced.load(Ordering::Relaxed) + 1);
        if let Some(number) = number {
            batch.insert(&self.rows, acknowledged::KEY, number.to_be_bytes());
        }
        batch.commit().map_err(unwritten)?;
        self.tell_sizes();
        if let Some(number) = number {
            self.synced.store(number, Ordering::Relaxed);
            if let Err(error) = self.acknowledged.note(number) {
                // The write itself is safe: only a later damage might go unnoticed.
                tracing::error!(%error, "an acknowledged write can't be noted beside the store");
            }
        }
        Ok(())
    }
}

impl Drop for DiskEngine {
    fn drop(&mut self) {
        if let Err(error) = self.database.persist(PersistMode::SyncAll) {
            tracing::error!(%error, "the store could not be synced at its end");
        }
    }
}

fn unread(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => {
            StoreError::Unavailable(error.to_string())
        }
        error => StoreError::corrupt("a file of the store", error.to_string()),
    }
}

fn unwritten(error: fjall::Error) -> StoreError {
    match error {
        // Since an earlier failure it takes nothing.
        fjall::Error::Poisoned => {
            StoreError::Unavailable("a write to disk has failed: restart when it can be written".into())
        }
        fjall::Error::Io(error) => StoreError::Unknown(error.to_string()),
        error => StoreError::Unknown(error.to_string()),
    }
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    use io::ErrorKind as E;
    let path = path.to_path_buf();
    match error {
        fjall::Error::Locked => OpenError::InUse(path),
        fjall::Error::Io(source) | fjall::Error::Storage(LsmError::Io(source))
            // The others are what the engine gets from files that are too short (or empty) or not there.
            if !matches!(source.kind(), E::UnexpectedEof | E::NotFound | E::InvalidInput) =>
        {
            OpenError::Io { path, source }
        }
        fjall::Error::InvalidVersion(found) => {
            let found = found.map_or_else(|| "none".to_owned(), |found| format!("{found:?}"));
            OpenError::Format { path, found }
        }
        other => OpenError::Damaged { path, what: other.to_string() },
    }
}
