//! A disk that keeps what was written in order, and where it was synced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use polity_store::StoreError;

use crate::{
    engine::{Engine, KeyWrite, Pair},
    memory::MemoryEngine,
};

/// What happens to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Full,
    Panic,
}

#[derive(Default)]
pub(super) struct Disk {
    visible: MemoryEngine,
    written: Mutex<Written>,
    gate: Mutex<()>,
    /// It would make a writer wait.
    busy: AtomicBool,
    /// A write may take up to so many microseconds.
    slow: u64,
}

#[derive(Default)]
struct Written {
    batches: Vec<Vec<KeyWrite>>,
    /// So many of them are synced.
    synced: usize,
    fault: Option<(usize, Fault)>,
    by: Option<ThreadId>,
}

impl Disk {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn slow(microseconds: u64) -> Arc<Self> {
        Arc::new(Self { slow: microseconds, ..Self::default() })
    }

    /// What a power cut leaves: what was synced, and at most so many of the writes after it.
    pub(super) fn cut(&self, more: usize) -> Arc<Self> {
        let after = Self::new();
        {
            let (written, mut left) = (self.written.lock(), after.written.lock());
            let kept = written.synced.saturating_add(more).min(written.batches.len());
            for batch in &written.batches[..kept] {
                after.visible.write(batch.clone(), true).unwrap();
                left.batches.push(batch.clone());
            }
            left.synced = kept;
        }
        after
    }

    /// How many writes there were.
    pub(super) fn writes(&self) -> usize {
        self.written.lock().batches.len()
    }

    /// How many keys there are that begin with a digit: those of tests.
    pub(super) fn keys(&self) -> usize {
        let mut keys = 0;
        let mut count = |(key, _): Pair| {
            keys += usize::from(key[0].is_ascii_digit());
            true
        };
        self.visible.range(b"", &[u8::MAX], false, &mut count).unwrap();
        keys
    }

    pub(super) fn last_writer(&self) -> Option<ThreadId> {
        self.written.lock().by
    }

    pub(super) fn fault_at(&self, write: usize, fault: Fault) {
        self.written.lock().fault = Some((write, fault));
    }

    pub(super) fn be_busy(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Writes stand still while the guard is held.
    pub(super) fn close_gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock()
    }
}

impl Engine for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.visible.get(key)
    }

    fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        each: &mut dyn FnMut(Pair) -> bool,
    ) -> Result<(), StoreError> {
        self.visible.range(begin, end, reverse, each)
    }

    fn has_room(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    fn write(&self, writes: Vec<KeyWrite>, sync: bool) -> Result<(), StoreError> {
        drop(self.gate.lock());
        if self.slow > 0 {
            let size = writes.iter().map(|(key, _)| key.len() as u64).sum::<u64>();
            thread::sleep(Duration::from_micros(size * 7919 % self.slow));
        }
        let mut written = self.written.lock();
        match written.fault {
            Some((at, Fault::Full)) if at == written.batches.len() => {
                written.fault = None;
                return Err(StoreError::Unknown("no space left on the disk".to_owned()));
            }
            Some((at, Fault::Panic)) if at == written.batches.len() => {
                written.fault = None;
                panic!("the engine contradicts itself");
            }
            _ => {}
        }
        written.by = Some(thread::current().id());
        written.batches.push(writes.clone());
        if sync {
            written.synced = written.batches.len();
        }
        self.visible.write(writes, sync)
    }
}
