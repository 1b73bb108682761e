//! The logs of one use that this process has loaded.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_core::{Clock, LogKey, RetryBudget, Seq, tasks};
use polity_store::Store;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::{
    Asked, LogError, Machine, Registry, Writers, metric,
    recover::{Holds, Recover},
    task::Task,
    tasks::{Handle, Tasks, Usage},
};

/// Commands that may wait for one log; more are refused at once.
const MAILBOX: usize = 512;
/// A log that nobody asked for is unloaded after this long.
const IDLE: Duration = Duration::from_secs(300);
/// Tenths of a retry that an append earns where one process writes at a time,
const OF_ONE: u32 = 1;
/// and where several do, of whom all but one lose each time that they write at once.
const OF_MANY: u32 = 40;

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
    /// Whether other processes may have the same store open.
    pub shared: bool,
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
    pub(crate) tasks: Mutex<Tasks<M>>,
    pub(crate) retries: RetryBudget,
    pub(crate) writers: Writers,
    /// Attempts to append so far.
    attempts: AtomicU64,
    /// Nothing more is opened.
    leaving: AtomicBool,
    max_loaded: usize,
}

/// What a log's task is told.
pub(crate) enum Order<M: Machine> {
    Command(Box<Waiting<M>>),
    /// Fence and project, then say so.
    Recover(oneshot::Sender<Result<(), LogError>>),
    /// Seal and delete it.
    Purge(Asked, oneshot::Sender<Result<bool, LogError>>),
    /// End if nothing waits.
    Unload,
}

/// A command and who waits for its answer.
pub(crate) struct Waiting<M: Machine> {
    pub(crate) command: M::Command,
    pub(crate) reply: oneshot::Sender<M::Reply>,
    /// The span of who asks.
    pub(crate) span: Span,
    /// How it came here.
    pub(crate) asked: Asked,
}

// === impl Logs ===

impl<M: Machine> Clone for Logs<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Machine> Logs<M> {
    /// No log is loaded yet. `make` gives a new machine for each load; at most `max_loaded` logs stay loaded when idle, and fewer of
    /// those whose machine holds much ([`Machine::weight`]): each 8 KiB count as one more. Where the store is shared any process may
    /// write these logs.
    #[must_use]
    pub fn new(env: Env, usage: &'static str, max_loaded: usize, make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        let writers = if env.shared { Writers::Any } else { Writers::Alone };
        Self::written_by(writers, env, usage, max_loaded, make)
    }

    /// The same, but where the store is shared each of these logs is written by one process at a time: commands must be able to be
    /// handed on to it.
    #[must_use]
    pub fn owned(
        env: Env,
        usage: &'static str,
        max_loaded: usize,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let writers = if env.shared { Writers::One } else { Writers::Alone };
        Self::written_by(writers, env, usage, max_loaded, make)
    }

    fn written_by(
        writers: Writers,
        env: Env,
        usage: &'static str,
        max_loaded: usize,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let retries = RetryBudget::earning(if writers == Writers::Any { OF_MANY } else { OF_ONE });
        let (tasks, attempts, leaving) = (Mutex::new(Tasks::new(usage)), AtomicU64::new(0), AtomicBool::new(false));
        let inner = Inner { env, usage, make: Box::new(make), tasks, retries, writers, attempts, leaving, max_loaded };
        let inner = Arc::new(inner);
        let holder: Arc<dyn Holds> = Arc::clone(&inner) as _;
        inner.env.registry.hold(&holder);
        Self { inner }
    }

    /// Hands a command to a log and waits for its answer. From the moment that it is in the mailbox it is carried out, whether
    /// or not the caller still waits. What it changed is seen by every later command on the log, and, if the machine asked for
    /// that, in its projections; else these follow.
    ///
    /// # Errors
    /// [`LogError::Overloaded`] at once when too many wait; [`LogError::Ended`] when the log's task died: it may or may not have been
    /// carried out. Whatever else fails is in the machine's answer.
    pub async fn submit(&self, key: LogKey, command: M::Command) -> Result<M::Reply, LogError> {
        self.submit_as(key, command, Asked::default()).await
    }

    /// The same, for a command that came from another process, or with what is known of the one that writes the log.
    ///
    /// # Errors
    /// As for [`Logs::submit`]; besides [`LogError::NotHeld`] and [`LogError::Leaving`].
    pub async fn submit_as(&self, key: LogKey, command: M::Command, asked: Asked) -> Result<M::Reply, LogError> {
        let (reply, answer) = oneshot::channel();
        self.order(key, Order::Command(Box::new(Waiting { command, reply, span: Span::current(), asked })))?;
        answer.await.map_err(|_| LogError::Ended)
    }

    /// Ends a log for ever: nobody appends to it any more once this has returned, and nothing of it is left but the heads of its buckets,
    /// sealed and empty. They stay: whoever was stopped while he opened one of those buckets would else find that it isn't there yet. What
    /// else of it goes is the machine's to say ([`Machine::purge`]). Whatever fails or dies in between, the same may be asked for again;
    /// from the seal on whoever loads the log goes on with it. A log that has no row yet is left as it is, and `false` says so.
    ///
    /// # Errors
    /// As for [`Logs::submit_as`], and those of a log that can't be loaded. It may have been begun.
    pub async fn purge(&self, key: LogKey, asked: Asked) -> Result<bool, LogError> {
        let (done, answer) = oneshot::channel();
        self.order(key, Order::Purge(asked, done))?;
        answer.await.map_err(|_| LogError::Ended)?
    }

    fn order(&self, key: LogKey, order: Order<M>) -> Result<(), LogError> {
        let now_ms = self.inner.now_ms();
        // Sent under the lock: a task that unloads looks into its mailbox under it, too.
        let mut tasks = self.inner.tasks.lock();
        if let Some(asked) = order.asked()
            && self.inner.writers == Writers::One
            && !tasks.is_running(key)
        {
            if asked.forwarded {
                return Err(LogError::NotHeld);
            }
            if self.inner.leaving.load(Ordering::Acquire) {
                return Err(LogError::Leaving);
            }
        }
        let handle = tasks.running(key, |doubt| self.start(key, now_ms, doubt));
        handle.usage.used_ms.store(now_ms, Ordering::Relaxed);
        handle.mailbox.try_send(order).map_err(|_| {
            metrics::counter!(metric::REFUSED, "use" => self.inner.usage).increment(1);
            LogError::Overloaded
        })
    }

    fn start(&self, key: LogKey, now_ms: u64, doubt: bool) -> Handle<M> {
        let (mailbox, orders) = mpsc::channel(MAILBOX);
        let usage = Usage::new(now_ms);
        tasks::spawn(Task::new(Arc::clone(&self.inner), key, orders, Arc::clone(&usage), doubt).run());
        Handle { mailbox, usage }
    }

    /// How many logs are loaded, or have a task that is about to.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.inner.tasks.lock().len()
    }

    /// Unloads what has been idle for long, and the longest idle ones beyond the bound; takes up the logs of tasks that died.
    /// Call it every few seconds: one sweep for all logs costs less than a timer for each.
    pub fn sweep(&self) {
        self.unload(u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX), self.inner.max_loaded);
        let died = self.inner.tasks.lock().orphans();
        for key in died {
            // A full mailbox isn't an orphan's.
            let _ = self.order(key, Order::Recover(oneshot::channel().0));
        }
    }

    pub(crate) fn unload(&self, idle_ms: u64, keep: usize) {
        let now_ms = self.inner.now_ms();
        let tasks = self.inner.tasks.lock();
        let by_use = tasks.by_use();
        let mut beyond = by_use.iter().map(|(_, counts, _)| counts).sum::<usize>().saturating_sub(keep);
        for (used_ms, counts, mailbox) in by_use {
            if beyond > 0 || now_ms.saturating_sub(used_ms) >= idle_ms {
                beyond = beyond.saturating_sub(counts);
                // A full mailbox isn't idle.
                let _ = mailbox.try_send(Order::Unload);
            }
        }
    }

    /// Ends all tasks once their commands are answered and everything is projected; logs that have one writer at a time aren't opened
    /// any more, and are free for others from then on. Says whether they ended within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.inner.leaving.store(true, Ordering::Release);
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

// === impl Order ===

impl<M: Machine> Order<M> {
    /// How it came here, if somebody else may be meant.
    fn asked(&self) -> Option<Asked> {
        match self {
            Self::Command(waiting) => Some(waiting.asked),
            Self::Purge(asked, _) => Some(*asked),
            Self::Recover(_) | Self::Unload => None,
        }
    }
}

// === impl Inner ===

impl<M: Machine> Inner<M> {
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.env.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// A name for an attempt to append that no other one has, of this process or another.
    pub(crate) fn next_attempt(&self) -> i64 {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let own = (self.env.registry.incarnation(), number);
        BuildHasherDefault::<DefaultHasher>::default().hash_one(own).cast_signed()
    }
}

impl<M: Machine> Holds for Inner<M> {
    fn usage(&self) -> &'static str {
        self.usage
    }

    fn held(&self) -> Vec<LogKey> {
        self.tasks.lock().held(self.now_ms())
    }

    fn owes_nothing(&self) -> bool {
        self.tasks.lock().owe_nothing()
    }
}
