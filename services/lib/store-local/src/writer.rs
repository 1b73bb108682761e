//! The one thread that syncs: it takes whatever waits, checks conditions in order, and lets the whole group share a commit. What needs
//! no sync is written by whoever brings it while nobody else writes: two threads needn't wake each other for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use polity_core::Stamp;
use polity_store::{Cas, Durability, Expect, StoreError, Table, Values};
use tokio::sync::{oneshot, watch};

use crate::{
    engine::{Engine, KeyWrite},
    keys, metric,
    record::Record,
};

/// Writes that may wait, and their bytes; more are refused at once.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Writes that may share a commit, and their bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Writes that are kept for the next one to take along.
const AHEAD: usize = 64;

/// Whose turn it is to write, and why nothing is written any more.
#[derive(Default)]
struct Turn(Mutex<Option<StoreError>>);

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change of one key within a conditional write.
pub(crate) enum KeyChange {
    Put(Vec<u8>, Bytes),
    /// All keys with `begin <= key < end`.
    Delete(Vec<u8>, Vec<u8>),
}

/// A write that waits.
pub(crate) enum Request {
    Cas {
        table: &'static Table,
        /// The row of the condition, by its key and its clustering columns.
        row: (Vec<u8>, Values),
        expect: Expect,
        changes: Vec<KeyChange>,
        reply: Reply<Cas>,
    },
    Put {
        writes: Vec<PlainWrite>,
        durability: Durability,
        /// None: whoever wrote it waits for what comes after it.
        reply: Option<Reply<()>>,
    },
    Drop {
        range: (Vec<u8>, Vec<u8>),
        reply: Reply<()>,
    },
}

/// A write without condition.
pub(crate) struct PlainWrite {
    pub(crate) table: &'static Table,
    pub(crate) key: Vec<u8>,
    /// In a projection table: what is written stays only if it is the greatest.
    pub(crate) stamp: Option<Stamp>,
    /// What is written; `None` removes it.
    pub(crate) record: Option<Bytes>,
}

/// The way to the writer. Dropping it ends the thread once everything that waits is written.
pub(crate) struct Writer {
    engine: Arc<dyn Engine>,
    turn: Arc<Turn>,
    queue: Option<mpsc::SyncSender<Request>>,
    /// What goes into the queue with the next write, before it.
    ahead: Mutex<Vec<Request>>,
    /// Bytes of the writes that wait.
    waiting: Arc<AtomicUsize>,
    failed: watch::Receiver<Option<String>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(engine: Arc<dyn Engine>) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::sync_channel(QUEUE);
        let (failing, failed) = watch::channel(None);
        let (waiting, turn) = (Arc::new(AtomicUsize::new(0)), Arc::new(Turn::default()));
        let run = {
            let (engine, turn, taken) = (Arc::clone(&engine), Arc::clone(&turn), Arc::clone(&waiting));
            move || run(&*engine, &turn, &requests, &taken, &failing)
        };
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(run)?;
        let (queue, ahead) = (Some(queue), Mutex::default());
        Ok(Self { engine, turn, queue, ahead, waiting, failed, thread: Some(thread) })
    }

    /// Hands a write over: it is made after those that were handed over before it, or by one of them.
    pub(crate) fn submit(&self, request: Request) -> Result<(), StoreError> {
        let mut ahead = self.ahead.lock();
        let bytes: usize = ahead.iter().map(Request::bytes).sum::<usize>() + request.bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let refused = |not_sent: usize| {
            self.waiting.fetch_sub(not_sent, Ordering::Relaxed);
            StoreError::Unavailable("too many writes are waiting".to_owned())
        };
        if before > QUEUE_BYTES {
            return Err(refused(bytes));
        }
        let queue = self.queue.as_ref().ok_or_else(|| refused(bytes))?;
        let (mut left, mut requests) = (bytes, ahead.drain(..).chain([request]));
        let mut kept = Vec::new();
        for next in requests.by_ref() {
            let size = next.bytes();
            match queue.try_send(next) {
                Ok(()) => left -= size,
                Err(mpsc::TrySendError::Full(next) | mpsc::TrySendError::Disconnected(next)) => {
                    kept.push(next);
                    break;
                }
            }
            metrics::gauge!(metric::QUEUE).increment(1.0);
        }
        if kept.is_empty() {
            return Ok(());
        }
        kept.extend(requests);
        // Refused is the last one alone: those ahead of it go with another.
        kept.pop();
        *ahead = kept;
        Err(refused(left))
    }

    /// Takes a write that goes with the next one.
    pub(crate) fn submit_ahead(&self, writes: Vec<PlainWrite>) -> Result<(), StoreError> {
        let request = Request::Put { writes, durability: Durability::Ahead, reply: None };
        let mut ahead = self.ahead.lock();
        if ahead.len() < AHEAD {
            ahead.push(request);
            return Ok(());
        }
        drop(ahead);
        self.submit(request)
    }

    /// Makes a write that needs no sync, if nobody else writes or waits. Else it is given back.
    pub(crate) fn put_now(&self, writes: Vec<PlainWrite>) -> Result<Result<(), StoreError>, Vec<PlainWrite>> {
        let idle = || self.waiting.load(Ordering::Relaxed) == 0 && self.ahead.lock().is_empty();
        let Some(mut broken) = self.turn.0.try_lock().filter(|broken| broken.is_none() && idle()) else {
            return Err(writes);
        };
        let mut group = Group::new(&*self.engine);
        if let Err(error) = group.put(writes) {
            return Ok(Err(error));
        }
        let done = group.commit(1, None);
        if let Err(error) = &done {
            *broken = Some(StoreError::Unavailable(error.to_string()));
            drop(broken);
            // The thread tells everybody; it looks when something comes.
            drop(self.submit(Request::Put { writes: Vec::new(), durability: Durability::Rebuildable, reply: None }));
        }
        Ok(done)
    }

    /// See [`crate::LocalStore::failed`].
    pub(crate) async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        let reason = failed.wait_for(Option::is_some).await.map(|reason| reason.clone().unwrap_or_default());
        reason.unwrap_or_else(|_| "the store's writer has ended".to_owned())
    }
}

impl Request {
    /// What it holds in memory while it waits.
    fn bytes(&self) -> usize {
        let change = |change: &KeyChange| match change {
            KeyChange::Put(key, record) => key.len() + record.len(),
            KeyChange::Delete(begin, end) => begin.len() + end.len(),
        };
        match self {
            Self::Cas { changes, .. } => changes.iter().map(change).sum(),
            Self::Put { writes, .. } => {
                writes.iter().map(|write| write.key.len() + write.record.as_ref().map_or(0, Bytes::len)).sum()
            }
            Self::Drop { range, .. } => range.0.len() + range.1.len(),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn run(
    engine: &dyn Engine,
    turn: &Turn,
    requests: &mpsc::Receiver<Request>,
    waiting: &AtomicUsize,
    failing: &watch::Sender<Option<String>>,
) {
    while let Ok(first) = requests.recv() {
        let mut broken = turn.0.lock();
        let mut group = Group::new(engine);
        let (mut taken, mut bytes) = (1, first.bytes());
        group.take(first);
        while taken < GROUP && group.bytes < GROUP_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            taken += 1;
            bytes += next.bytes();
            group.take(next);
        }
        metrics::gauge!(metric::QUEUE).decrement(f64::from(u32::try_from(taken).unwrap_or(u32::MAX)));
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        if let Err(error) = group.commit(taken, broken.as_ref()) {
            let reason = broken.get_or_insert_with(|| StoreError::Unavailable(error.to_string()));
            failing.send_replace(Some(reason.to_string()));
        }
    }
}

/// Writes that will share a commit, and who waits for them.
struct Group<'a> {
    engine: &'a dyn Engine,
    pending: BTreeMap<Vec<u8>, Option<Bytes>>,
    bytes: usize,
    sync: bool,
    cas: Vec<(Reply<Cas>, Result<Cas, StoreError>)>,
    put: Vec<Reply<()>>,
}

impl<'a> Group<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, pending: BTreeMap::new(), bytes: 0, sync: false, cas: Vec::new(), put: Vec::new() }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Cas { table, row, expect, changes, reply } => {
                // Refused or not: the answer rests on what the group (and its sync) makes true.
                let outcome = self.cas(table, row, expect, changes);
                self.sync = true;
                self.cas.push((reply, outcome));
            }
            Request::Put { writes, durability, reply } => match self.put(writes) {
                Ok(()) => {
                    self.sync |= durability == Durability::Acknowledged;
                    self.put.extend(reply);
                }
                Err(error) => drop(reply.map(|reply| reply.send(Err(error)))),
            },
            Request::Drop { range, reply } => match self.delete(&range.0, &range.1) {
                Ok(()) => {
                    self.sync = true;
                    self.put.push(reply);
                }
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.pending.get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.engine.get(key),
        }
    }

    fn cas(
        &mut self,
        table: &'static Table,
        (key, clustering): (Vec<u8>, Values),
        expect: Expect,
        changes: Vec<KeyChange>,
    ) -> Result<Cas, StoreError> {
        let current = self.get(&key)?.map(|bytes| Record::decode(table, bytes)).transpose()?;
        let holds = match (&current, expect) {
            (None, Expect::Absent) => true,
            (Some(record), Expect::Guards(first, second)) => record.guards == Some((first, second)),
            _ => false,
        };
        if !holds {
            let row = current.map(|record| record.into_row(table, clustering)).transpose()?;
            return Ok(Cas::Refused(row));
        }
        // Whatever can fail comes first: a write that failed leaves nothing behind.
        let mut writes: Vec<KeyWrite> = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                KeyChange::Put(key, record) => writes.push((key, Some(record))),
                KeyChange::Delete(begin, end) => {
                    writes.extend(self.keys_between(&begin, &end)?.into_iter().map(|key| (key, None)));
                }
            }
        }
        writes.into_iter().for_each(|(key, value)| self.set(key, value));
        Ok(Cas::Applied)
    }

    fn put(&mut self, writes: Vec<PlainWrite>) -> Result<(), StoreError> {
        for PlainWrite { table, key, stamp, record } in writes {
            if let (Some(stamp), Some(record)) = (stamp, &record)
                && let Some(current) = self.get(&key)?
            {
                // A max-register: the greatest stamp stays, of equal ones the greater row.
                let (current, new) = (Record::decode(table, current)?, Record::decode(table, record.clone())?);
                if (current.stamp, current.packed) >= (Some(stamp), new.packed) {
                    continue;
                }
            }
            self.set(key, record);
        }
        Ok(())
    }

    /// Removes the keys with `begin <= key < end`.
    fn delete(&mut self, begin: &[u8], end: &[u8]) -> Result<(), StoreError> {
        self.keys_between(begin, end)?.into_iter().for_each(|key| self.set(key, None));
        Ok(())
    }

    fn keys_between(&self, begin: &[u8], end: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found: Vec<Vec<u8>> =
            self.pending.range(begin.to_vec()..end.to_vec()).map(|(key, _)| key.clone()).collect();
        self.engine.range(begin, end, false, &mut |(key, _)| {
            found.push(key.to_vec());
            true
        })?;
        Ok(found)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.pending.insert(key, value);
    }

    /// Writes it, unless an earlier write has failed: what comes later may rest on that.
    fn commit(self, taken: usize, broken: Option<&StoreError>) -> Result<(), StoreError> {
        let began = Instant::now();
        metrics::histogram!(metric::GROUP).record(f64::from(u32::try_from(taken).unwrap_or(u32::MAX)));
        metrics::counter!(metric::BYTES).increment(self.bytes as u64);
        let written = match (broken, self.pending.is_empty()) {
            (Some(error), _) => Err(error.clone()),
            (None, true) => Ok(()),
            (None, false) => self.engine.write(self.pending.into_iter().collect(), self.sync),
        };
        let synced = if self.sync { "true" } else { "false" };
        metrics::histogram!(metric::COMMIT_SECONDS, "synced" => synced).record(began.elapsed().as_secs_f64());
        if let Err(error) = &written {
            tracing::error!(%error, "a commit failed");
        }
        for (reply, outcome) in self.cas {
            // Nobody may be listening any more: the write stands all the same.
            drop(reply.send(written.clone().and(outcome)));
        }
        for reply in self.put {
            drop(reply.send(written.clone()));
        }
        written
    }
}

/// The keys with `first <= key <= last`, by the first clustering column.
pub(crate) fn delete_range(
    table: &'static Table,
    partition: &[u8],
    first: polity_store::Value,
    last: polity_store::Value,
) -> KeyChange {
    let bounds = polity_store::Bounds {
        from: std::ops::Bound::Included(polity_store::values([first])),
        to: std::ops::Bound::Included(polity_store::values([last])),
        reverse: false,
    };
    let (begin, end) = keys::range(table, partition, &bounds);
    KeyChange::Delete(begin, end)
}
