//! The engine on disk: fjall, a log-structured merge tree.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use polity_store::StoreError;

use crate::{
    engine::{Engine, KeyWrite, Pair},
    store::Options,
};

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
        found: u64,
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
}

impl DiskEngine {
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let failed = |error: fjall::Error| open_error(path, error);
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let memtable = options.write_buffer_bytes / 2;
        let rows = database
            .keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(memtable))
            .map_err(failed)?;
        Ok(Self { database, rows })
    }
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(key).map_err(unavailable)?.map(Bytes::from))
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
            let (key, value) = guard.into_inner().map_err(unavailable)?;
            if !each((key.into(), value.into())) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, writes: Vec<KeyWrite>, sync: bool) -> Result<(), StoreError> {
        // The batch syncs its journal before it lets anybody read it.
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.rows, key, fjall::Slice::from(value)),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(|error| StoreError::Unknown(error.to_string()))
    }
}

impl Drop for DiskEngine {
    fn drop(&mut self) {
        if let Err(error) = self.database.persist(PersistMode::SyncAll) {
            tracing::error!(%error, "the store could not be synced at its end");
        }
    }
}

fn unavailable(error: fjall::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    let path = path.to_path_buf();
    match error {
        fjall::Error::Locked => OpenError::InUse(path),
        fjall::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => OpenError::Io { path, source },
        other => OpenError::Damaged { path, what: other.to_string() },
    }
}
