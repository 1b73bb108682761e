//! The logs of one use that this process has loaded.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_core::{Clock, LogKey, Seq, tasks};
use polity_store::Store;
use tokio::sync::{mpsc, oneshot};

use crate::{LogError, Machine, Registry, metric, task::Task};

/// Commands that may wait for one log; more are refused at once.
const MAILBOX: usize = 512;
/// A log that nobody asked for is unloaded after this long.
const IDLE: Duration = Duration::from_secs(300);

/// Hears of every append before it is acknowledged: the head map of whoever reads.
pub trait Moved: Send + Sync + 'static {
    /// The log has reached `seq`.
    fn moved(&self, key: LogKey, seq: Seq);
}

/// What logs stand on.
#[derive(Clone)]
pub struct Env {
    /// The store.
    pub store: Arc<dyn Store>,
    /// This process in the registry of activations.
    pub registry: Arc<Registry>,
    /// Who hears of appends.
    pub moved: Arc<dyn Moved>,
    /// Time, for idleness only.
    pub clock: Arc<dyn Clock>,
}

/// The logs of one use (rooms, user records, inboxes, ...) that this process has loaded, each driven by a task of its own.
pub struct Logs<M: Machine> {
    inner: Arc<Inner<M>>,
}

pub(crate) struct Inner<M: Machine> {
    pub(crate) env: Env,
    /// The name of the use, in the registry and in metrics.
    pub(crate) usage: &'static str,
    pub(crate) make: Box<dyn Fn() -> M + Send + Sync>,
    pub(crate) loaded: Mutex<HashMap<LogKey, Handle<M>>>,
    max_loaded: usize,
}

pub(crate) struct Handle<M: Machine> {
    mailbox: mpsc::Sender<Order<M>>,
    /// When it was asked for last (monotonic milliseconds).
    used_ms: Arc<AtomicU64>,
}

/// What a log's task is told.
pub(crate) enum Order<M: Machine> {
    Command(Box<Waiting<M>>),
    /// Load (which fences and projects), then say so.
    Recover(oneshot::Sender<Result<(), LogError>>),
    /// End if nothing waits.
    Unload,
}

/// A command and who waits for its answer.
pub(crate) struct Waiting<M: Machine> {
    pub(crate) command: M::Command,
    pub(crate) reply: oneshot::Sender<M::Reply>,
}

/// Finishes what dead processes left: implemented by [`Logs`] of every use.
#[async_trait]
pub trait Recover: Send + Sync {
    /// The name of the use.
    fn usage(&self) -> &'static str;
    /// Loads the log, which fences it and writes the projections that are missing.
    ///
    /// # Errors
    /// When that didn't succeed: try again.
    async fn recover(&self, key: LogKey) -> Result<(), LogError>;
}

// === impl Logs ===

impl<M: Machine> Clone for Logs<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Machine> Logs<M> {
    /// No log is loaded yet. `make` gives a new machine for each load; at most `max_loaded` logs stay loaded when idle.
    #[must_use]
    pub fn new(env: Env, usage: &'static str, max_loaded: usize, make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        let loaded = Mutex::new(HashMap::new());
        Self { inner: Arc::new(Inner { env, usage, make: Box::new(make), loaded, max_loaded }) }
    }

    /// Hands a command to a log and waits for its answer. From the moment that it is in the mailbox it is carried out, whether
    /// or not the caller still waits.
    ///
    /// # Errors
    /// [`LogError::Overloaded`] at once when too many wait. Whatever else fails is in the machine's answer.
    pub async fn submit(&self, key: LogKey, command: M::Command) -> Result<M::Reply, LogError> {
        let (reply, answer) = oneshot::channel();
        self.order(key, Order::Command(Box::new(Waiting { command, reply })))?;
        answer.await.map_err(|_| LogError::Ended)
    }

    fn order(&self, key: LogKey, order: Order<M>) -> Result<(), LogError> {
        let now_ms = self.now_ms();
        let mut loaded = self.inner.loaded.lock();
        // Sent under the lock: a task that unloads looks into its mailbox under it, too.
        let handle = loaded.entry(key).or_insert_with(|| self.start(key));
        handle.used_ms.store(now_ms, Ordering::Relaxed);
        match handle.mailbox.try_send(order) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!(metric::REFUSED, "use" => self.inner.usage).increment(1);
                Err(LogError::Overloaded)
            }
            // The task has panicked: the next one loads what is durable.
            Err(mpsc::error::TrySendError::Closed(order)) => {
                let handle = self.start(key);
                let sent = handle.mailbox.try_send(order).map_err(|_| LogError::Ended);
                loaded.insert(key, handle);
                sent
            }
        }
    }

    fn start(&self, key: LogKey) -> Handle<M> {
        let (mailbox, orders) = mpsc::channel(MAILBOX);
        metrics::gauge!(metric::LOADED, "use" => self.inner.usage).increment(1.0);
        tasks::spawn(Task::new(Arc::clone(&self.inner), key, orders).run());
        Handle { mailbox, used_ms: Arc::new(AtomicU64::new(self.now_ms())) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.env.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many logs are loaded.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.inner.loaded.lock().len()
    }

    /// Unloads what has been idle for long, and the longest idle ones beyond the bound. Call it every few seconds: one sweep for
    /// all logs costs less than a timer for each.
    pub fn sweep(&self) {
        self.unload(u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX), self.inner.max_loaded);
    }

    fn unload(&self, idle_ms: u64, keep: usize) {
        let now_ms = self.now_ms();
        let loaded = self.inner.loaded.lock();
        let mut by_use: Vec<_> =
            loaded.values().map(|handle| (handle.used_ms.load(Ordering::Relaxed), &handle.mailbox)).collect();
        by_use.sort_by_key(|(used_ms, _)| *used_ms);
        let beyond = by_use.len().saturating_sub(keep);
        for (at, (used_ms, mailbox)) in by_use.into_iter().enumerate() {
            if at < beyond || now_ms.saturating_sub(used_ms) >= idle_ms {
                // A full mailbox isn't idle.
                let _ = mailbox.try_send(Order::Unload);
            }
        }
    }

    /// Ends all tasks once their commands are answered and everything is projected. Says whether they ended within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while self.loaded() > 0 {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            self.unload(0, 0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

#[async_trait]
impl<M: Machine> Recover for Logs<M> {
    fn usage(&self) -> &'static str {
        self.inner.usage
    }

    async fn recover(&self, key: LogKey) -> Result<(), LogError> {
        let (done, answer) = oneshot::channel();
        self.order(key, Order::Recover(done))?;
        answer.await.map_err(|_| LogError::Ended)?
    }
}

/// Finishes what dead runs of this node left, in the background; how many logs that were.
///
/// # Errors
/// When the registry can't be read or written. What was finished stays so.
pub async fn recover_all(registry: &Registry, node: &str, uses: &[Arc<dyn Recover>]) -> Result<usize, LogError> {
    let mut count = 0;
    for incarnation in registry.predecessors(node).await? {
        let dead = registry.close(incarnation).await?;
        let left = registry.left_open(dead).await?;
        for log in &left {
            let Some(logs) = uses.iter().find(|logs| logs.usage() == log.usage) else {
                return Err(LogError::Corrupt(format!("logs of the unknown use {}", log.usage)));
            };
            while let Err(error) = logs.recover(log.key).await {
                // A purged log is nobody's any more.
                if matches!(error, LogError::Sealed) {
                    break;
                }
                tracing::warn!(%error, log = %log.key, "a log can't be recovered yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        registry.drained(dead).await?;
        count += left.len();
    }
    Ok(count)
}
