//! One log of this process: what its task does with the store.

use std::{sync::Arc, time::Instant};

use polity_core::{
    LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_store::{Consistency, Durability};

use crate::{
    Claim, Head, LogError, LogRow, Machine,
    append::{self, Known, Outcome},
    held::Held,
    invariant::check_rows,
    logs::Inner,
    metric,
    pause::pause,
    read,
};

/// Rows that a load reads at once.
const PAGE: usize = 500;
/// A write of unknown outcome is settled with so many tries and pauses, which are some five seconds.
const SETTLE_TRIES: u32 = 9;

/// See the module.
pub(crate) struct Log<M: Machine> {
    pub(crate) inner: Arc<Inner<M>>,
    pub(crate) key: LogKey,
}

/// What is known of a log that was loaded and that another process has extended since.
pub(crate) struct Before {
    /// What was known of the head. Its epoch is the one that the activation holds for, and all rows up to there are projected.
    pub(crate) known: Known,
    /// What `projected` says.
    projected: Seq,
}

/// A log, as it was found.
pub(crate) enum Loaded<M> {
    /// It goes on.
    Held(Box<Held<M>>),
    /// It was sealed; its purge may not be finished.
    Sealed(Known),
}

/// What became of a group.
pub(crate) enum Appended {
    /// It stands in the log.
    Durable {
        /// Whether what is held goes on from it; else somebody else has extended or fenced the log.
        current: bool,
    },
    /// It doesn't, and never will.
    Lost,
    /// Nobody knows, and the store doesn't let itself be asked: before anything else the log is to be fenced.
    Unsettled,
}

impl Before {
    /// Of a log that was loaded, with all its rows projected.
    pub(crate) fn of<M>(held: &Held<M>) -> Self {
        Self { known: held.known.clone(), projected: held.projected }
    }
}

impl<M: Machine> Log<M> {
    /// Loads the log. An activation: read the head, enter it in the registry, then fence where that must be. `fence`: in any case.
    /// `before`: it was loaded until now, so that it needs no other activation while the epoch is the same.
    ///
    /// # Errors
    /// [`LogError::Elsewhere`]: it is another process's. Any other: whatever was fenced or entered stays so, and this log is to be loaded
    /// until that succeeds once.
    pub(crate) async fn load(
        &self,
        fence: bool,
        claim: Option<Claim>,
        before: Option<Before>,
    ) -> Result<Loaded<M>, LogError> {
        let env = &self.inner.env;
        let store = &*env.store;
        let (hint, projected) = match &before {
            Some(before) => (before.known.seq(), before.projected),
            None => {
                let projected = read::projected_seq(store, self.key).await?;
                (projected, projected)
            }
        };
        let mut known = Known::from_read(read::newest(store, self.key, hint, Consistency::Serial).await?);
        let sealed = known.is_sealed();
        let fence = fence || (!sealed && self.must_fence(&known, claim).await?);
        // Who closed this process fences all that it had entered: no write under an epoch that was read before that lands any more.
        if before.as_ref().is_none_or(|before| before.known.head.epoch != known.head.epoch)
            && !planted(Mutation::NoActivation)
        {
            env.registry.activate(self.inner.usage, self.key).await?;
        }
        if !sealed && fence && !planted(Mutation::LoadUnfenced) {
            known = match self.fence(&known).await {
                Err(LogError::Sealed) => {
                    Known::from_read(read::newest(store, self.key, known.seq(), Consistency::Serial).await?)
                }
                fenced => fenced?,
            };
        }
        if known.is_sealed() {
            return Ok(Loaded::Sealed(known));
        }
        // What was trimmed since `projected` was read is projected.
        let projected = projected.max(Seq::new(known.head.first.get() - 1));
        let done = before.map_or(projected, |before| before.known.seq().max(projected));
        let reads = if planted(Mutation::LoadForgetsRows) { known.seq() } else { done };
        let tail = self.rows_after(reads, known.seq()).await?;
        let mut machine = (self.inner.make)();
        machine.load(self.key, known.of_rows(), &tail).await?;
        let mut held = Held::new(machine, known, projected);
        held.remember(&tail);
        if !planted(Mutation::LeftUnprojected) {
            self.project(&mut held, &tail).await?;
        }
        if held.known.seq() > Seq::ZERO {
            // Whoever wrote it may not have lived to say so.
            env.moved.moved(self.key, held.known.seq());
        }
        if !tail.is_empty() {
            held.machine.announce(self.key, &tail);
        }
        Ok(Loaded::Held(Box::new(held)))
    }

    /// Whether the log stands where it is known to stand.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) async fn is_current(&self, known: &Known) -> Result<bool, LogError> {
        let now = read::newest(&*self.inner.env.store, self.key, known.seq(), Consistency::Quorum).await?;
        let now = Known::from_read(now);
        Ok((now.seq(), now.head.epoch) == (known.seq(), known.head.epoch))
    }

    pub(crate) async fn fence(&self, known: &Known) -> Result<Known, LogError> {
        metrics::counter!(metric::FENCES, "use" => self.inner.usage).increment(1);
        let env = &self.inner.env;
        append::fence(&*env.store, self.key, known, env.registry.incarnation()).await
    }

    /// All rows with `after < seq <= to`, but for those that were trimmed since the head was read: these are projected. A log loses no
    /// others, so fewer are an error.
    async fn rows_after(&self, after: Seq, to: Seq) -> Result<Vec<LogRow>, LogError> {
        let store = &*self.inner.env.store;
        let mut rows: Vec<LogRow> = Vec::new();
        let (mut at, mut begin) = (after, after);
        while at < to {
            let page = read::after(store, self.key, at, PAGE, Consistency::Serial).await?;
            if let Some(last) = page.last().filter(|_| page.first().is_some_and(|row| row.seq == at.next())) {
                at = last.seq;
                rows.extend(page);
                continue;
            }
            let now = Known::from_read(read::newest(store, self.key, to, Consistency::Serial).await?);
            if now.head.first <= at.next() {
                return Err(LogError::Corrupt(format!("row {} of {} is missing", at.next(), self.key)));
            }
            // Whatever came before it went.
            rows.clear();
            at = Seq::new(now.head.first.get() - 1);
            begin = at;
        }
        rows.retain(|row| row.seq <= to);
        debug_assert_eq!(check_rows(begin.min(to), &rows, to), Ok(()), "of the rows of {}", self.key);
        Ok(rows)
    }

    /// Makes the rows of a group durable; those before `first` go.
    ///
    /// # Errors
    /// Nothing of it is in the log, and nothing will be.
    pub(crate) async fn append(&self, held: &mut Held<M>, rows: &[LogRow], first: Seq) -> Result<Appended, LogError> {
        let env = &self.inner.env;
        if first > held.projected.next() {
            // What goes can't be projected any more.
            self.note_projected(held).await?;
        }
        let last = rows.last().map_or(held.known.seq(), |row| row.seq);
        let sealed = held.machine.seal(last)?;
        if !sealed.before.is_empty() {
            let written = env.store.put(sealed.before, Durability::Ahead).await;
            if !planted(Mutation::NodesUnwritten) {
                written?;
            }
        }
        // A head that differs in nothing that a condition looks at would be overlooked by other writers.
        let epoch = if rows.is_empty() { held.known.epoch().next() } else { held.known.epoch() };
        let head = Head { seq: last, epoch, first, writer: env.registry.incarnation(), state: sealed.head };
        let began = Instant::now();
        let outcome = append::append(&*env.store, self.key, &held.known, rows, &head).await?;
        metrics::histogram!(metric::APPEND_SECONDS, "use" => self.inner.usage).record(began.elapsed().as_secs_f64());
        metrics::histogram!(metric::GROUP, "use" => self.inner.usage)
            .record(f64::from(u32::try_from(rows.len()).unwrap_or(0)));
        match outcome {
            Outcome::Applied => {
                held.known = held.known.extended(head);
                Ok(Appended::Durable { current: true })
            }
            Outcome::Lost => {
                metrics::counter!(metric::LOST, "use" => self.inner.usage).increment(1);
                Ok(Appended::Lost)
            }
            Outcome::Unknown => Ok(self.settle(held, rows, &head).await),
        }
    }

    /// Fences until the write of unknown outcome has landed or can't any more: who forgot it could leave a row behind that nobody
    /// projects. Whoever waits for it isn't kept for ever: after some seconds, and at once when the log is damaged, it is left in
    /// doubt.
    async fn settle(&self, held: &mut Held<M>, rows: &[LogRow], head: &Head) -> Appended {
        for attempt in 0..SETTLE_TRIES {
            match self.landed(&held.known, rows, head).await {
                Ok((landed, known)) => {
                    let current = known.as_ref().is_some_and(|known| known.seq() == head.seq);
                    if let Some(known) = known {
                        held.known = known;
                    }
                    return if landed { Appended::Durable { current } } else { Appended::Lost };
                }
                // It was purged meanwhile, and what may have landed went with the rest.
                Err(LogError::Sealed) => break,
                Err(error) => {
                    tracing::warn!(%error, log = %self.key, "the outcome of an append can't be settled yet");
                    if error.is_permanent() {
                        break;
                    }
                }
            }
            self.pause(attempt).await;
        }
        Appended::Unsettled
    }

    /// Whether an append landed, after which it can't any more; and the own fence, unless somebody else's came first.
    async fn landed(&self, before: &Known, rows: &[LogRow], head: &Head) -> Result<(bool, Option<Known>), LogError> {
        let (now, own) = match self.fence(before).await {
            Ok(known) => (known.clone(), Some(known)),
            Err(LogError::Contended | LogError::Sealed) => {
                let found = read::newest(&*self.inner.env.store, self.key, before.seq(), Consistency::Serial).await?;
                (Known::from_read(found), None)
            }
            Err(error) => return Err(error),
        };
        // It landed whole or not at all.
        if now.seq() < head.seq || now.head.first < head.first {
            return Ok((false, own));
        }
        if rows.first().is_some_and(|row| row.seq < now.head.first) {
            // Whatever stood there was read and trimmed: only its transaction tells whether it was this.
            return Ok((false, own));
        }
        match self.rows_after(before.seq(), head.seq).await {
            Ok(landed) => Ok((are_same(&landed, rows), own)),
            Err(LogError::Corrupt(_)) if now.is_sealed() => Err(LogError::Sealed),
            Err(error) => Err(error),
        }
    }

    /// Waits before another try.
    pub(crate) async fn pause(&self, attempt: u32) {
        pause((self.inner.env.registry.incarnation(), self.key), attempt).await;
    }
}

/// Whether rows are those of one attempt: others may have appended what looks like it.
fn are_same(landed: &[LogRow], rows: &[LogRow]) -> bool {
    let mut pairs = landed.iter().zip(rows);
    let alike = |row: &LogRow, other: &LogRow| *row == LogRow { attempt: row.attempt, ..other.clone() };
    landed.len() == rows.len()
        && pairs.all(|(landed, row)| landed == row || (planted(Mutation::LookAlikes) && alike(landed, row)))
}
