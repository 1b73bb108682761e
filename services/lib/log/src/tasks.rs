//! Which logs of a use have a task, had one a moment ago, or lost one.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use polity_core::LogKey;
use tokio::sync::mpsc;

use crate::{Machine, logs::Order, metric};

/// A log that moved so recently stays in the registry: who can't reach this process reads the heads of those.
const RECENT_MS: u64 = 60_000;

/// Bytes for which a loaded log counts as one.
pub(crate) const EACH: usize = 8 * 1024;

/// See the module.
pub(crate) struct Tasks<M: Machine> {
    usage: &'static str,
    running: HashMap<LogKey, Handle<M>>,
    /// Logs whose task died: a write of its may be under way until the log is fenced.
    died: HashSet<LogKey>,
    /// Logs that can't be loaded, however often it is tried: their registry entries stay for who can read them.
    aside: HashSet<LogKey>,
    /// Logs that were unloaded, oldest first, and when they were asked for, or moved, last.
    unloaded: VecDeque<(u64, LogKey)>,
}

/// The way to a log's task.
pub(crate) struct Handle<M: Machine> {
    pub(crate) mailbox: mpsc::Sender<Order<M>>,
    pub(crate) usage: Arc<Usage>,
}

/// What is known of a log's task without asking it. One's own, as no two tasks share one.
pub(crate) struct Usage {
    /// When it was asked for, or moved, last (monotonic milliseconds).
    pub(crate) used_ms: AtomicU64,
    /// About how many bytes its machine holds beside what each takes.
    pub(crate) bytes: AtomicUsize,
}

impl Usage {
    pub(crate) fn new(now_ms: u64) -> Arc<Self> {
        Arc::new(Self { used_ms: AtomicU64::new(now_ms), bytes: AtomicUsize::new(0) })
    }

    /// For how many logs it counts: one that holds much, for several.
    fn counts(&self) -> usize {
        1 + self.bytes.load(Ordering::Relaxed) / EACH
    }
}

impl<M: Machine> Tasks<M> {
    pub(crate) fn new(usage: &'static str) -> Self {
        Self { usage, running: HashMap::new(), died: HashSet::new(), aside: HashSet::new(), unloaded: VecDeque::new() }
    }

    /// The log's task; a new one, told whether the last one died, if it has none that lives.
    pub(crate) fn running(&mut self, key: LogKey, start: impl FnOnce(bool) -> Handle<M>) -> &Handle<M> {
        if let Some(handle) = self.running.get(&key)
            && handle.mailbox.is_closed()
        {
            let usage = Arc::clone(&handle.usage);
            self.died(key, &usage);
        }
        let doubt = self.died.contains(&key) || self.aside.contains(&key);
        self.running.entry(key).or_insert_with(|| {
            metrics::gauge!(metric::LOADED, "use" => self.usage).increment(1.0);
            start(doubt)
        })
    }

    /// Whether a log has a task, or one that died and left something.
    pub(crate) fn is_running(&self, key: LogKey) -> bool {
        self.running.contains_key(&key) || self.died.contains(&key)
    }

    /// Notes that a log's task has ended with everything projected and nothing unknown; whether it ever had the log.
    pub(crate) fn end(&mut self, key: LogKey, now_ms: u64, loaded: bool) {
        if let Some(handle) = self.running.remove(&key) {
            metrics::gauge!(metric::LOADED, "use" => self.usage).decrement(1.0);
            self.forget(now_ms);
            if loaded {
                self.unloaded.push_back((handle.usage.used_ms.load(Ordering::Relaxed), key));
            }
        }
    }

    /// Notes that a log's task has ended without having loaded it, and why trying again is no use.
    pub(crate) fn set_aside(&mut self, key: LogKey, now_ms: u64) {
        self.end(key, now_ms, true);
        self.aside.insert(key);
    }

    /// Notes that a log was loaded: whatever an earlier task left is finished.
    pub(crate) fn loaded(&mut self, key: LogKey) {
        self.died.remove(&key);
        self.aside.remove(&key);
    }

    /// Notes that a log's task has ended otherwise.
    pub(crate) fn died(&mut self, key: LogKey, usage: &Arc<Usage>) {
        if self.running.get(&key).is_some_and(|handle| Arc::ptr_eq(&handle.usage, usage)) {
            metrics::gauge!(metric::LOADED, "use" => self.usage).decrement(1.0);
            tracing::error!(log = %key, "the task of a log has died");
            self.running.remove(&key);
            self.died.insert(key);
        }
    }

    /// Logs whose task died and has no successor, unless they are set aside.
    pub(crate) fn orphans(&self) -> Vec<LogKey> {
        let orphan = |key: &&LogKey| !self.running.contains_key(key) && !self.aside.contains(key);
        let mut orphans: Vec<LogKey> = self.died.iter().filter(orphan).copied().collect();
        orphans.sort_unstable();
        orphans
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// When each task was asked for last, for how many logs it counts, and the way to it; oldest first.
    pub(crate) fn by_use(&self) -> Vec<(u64, usize, &mpsc::Sender<Order<M>>)> {
        let of = |(key, handle): (&LogKey, &Handle<M>)| (handle.usage.used_ms.load(Ordering::Relaxed), *key);
        let mut all: Vec<_> = self.running.iter().map(|entry| (of(entry), entry.1)).collect();
        all.sort_unstable_by_key(|(used, _)| *used);
        all.into_iter().map(|((at, _), Handle { mailbox, usage })| (at, usage.counts(), mailbox)).collect()
    }

    /// All that must stay in the registry.
    pub(crate) fn held(&mut self, now_ms: u64) -> Vec<LogKey> {
        self.forget(now_ms);
        let recent = self.unloaded.iter().map(|(_, key)| key);
        let held: BTreeSet<LogKey> =
            self.running.keys().chain(&self.died).chain(&self.aside).chain(recent).copied().collect();
        held.into_iter().collect()
    }

    /// Whether every activation was finished.
    pub(crate) fn owe_nothing(&self) -> bool {
        self.running.is_empty() && self.died.is_empty() && self.aside.is_empty()
    }

    fn forget(&mut self, now_ms: u64) {
        while self.unloaded.front().is_some_and(|(used_ms, _)| now_ms.saturating_sub(*used_ms) > RECENT_MS) {
            self.unloaded.pop_front();
        }
    }
}
