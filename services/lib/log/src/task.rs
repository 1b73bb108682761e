//! The task of one log: takes what waits as a group, lets it be decided and appended, answers, projects, announces.

mod purge;

use std::sync::{Arc, atomic::Ordering};

use polity_core::{
    LogKey,
    mutation::{Mutation, planted},
};
use polity_store::{StoreError, Write, check};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::{
    Claim, Dedup, LogError, Machine, Writers,
    append::{GROUP_ROWS, Known},
    held::{Group, Held},
    log::{Appended, Before, Loaded, Log},
    logs::{Inner, Order, Waiting},
    tasks::Usage,
};

/// How often a group is decided again after its append was lost, if the budget allows it.
const TRIES: u32 = 5;
/// The same where any process writes.
const TRIES_ANY: u32 = 16;
/// A log that was asked for by nobody but other processes for so long is left to them.
const LEFT_MS: u64 = 1_000;

/// A log's task.
pub(crate) struct Task<M: Machine> {
    log: Log<M>,
    orders: mpsc::Receiver<Order<M>>,
    held: Option<Held<M>>,
    /// An activation isn't finished yet: what it fenced or found may not be projected.
    owes: bool,
    /// An earlier task died, or an append couldn't be settled: a write may be under way.
    doubt: bool,
    /// What is known of the log, if another process has extended it since.
    before: Option<Box<Before>>,
    /// Whether it was ever loaded.
    loaded: bool,
    /// When it was asked for last by somebody who thinks that it is this process's.
    direct_ms: u64,
    /// Removes the task from those of its use, whatever ends it.
    entry: Entry<M>,
}

/// A task's place among those of its use. Dropped before the task has ended as it should, it says that the task died.
struct Entry<M: Machine> {
    inner: Arc<Inner<M>>,
    key: LogKey,
    /// Tells this task's handle from its successor's.
    usage: Arc<Usage>,
    ended: bool,
}

/// What became of an attempt at a group.
enum Attempt {
    /// Its commands are answered.
    Answered,
    /// Its append was lost: nothing was answered.
    Lost,
    /// Another process has extended the log: nothing was answered.
    Moved,
}

// === impl Task ===

impl<M: Machine> Task<M> {
    pub(crate) fn new(
        inner: Arc<Inner<M>>,
        key: LogKey,
        orders: mpsc::Receiver<Order<M>>,
        usage: Arc<Usage>,
        doubt: bool,
    ) -> Self {
        let entry = Entry { inner: Arc::clone(&inner), key, usage, ended: false };
        let (log, owes) = (Log { inner, key }, doubt);
        Self { log, orders, held: None, owes, doubt, before: None, loaded: false, direct_ms: 0, entry }
    }

    /// What it does is boxed: most of the loaded logs wait, and one that waits keeps no room for the work.
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Waiting<M>> = Vec::new();
        while let Some(order) = self.orders.recv().await {
            let mut unload = self.take(order, &mut waiting).await;
            while waiting.len() < GROUP_ROWS
                && let Ok(order) = self.orders.try_recv()
            {
                unload |= self.take(order, &mut waiting).await;
            }
            unload |= self.leave_to_others(&mut waiting).await;
            while !waiting.is_empty() {
                // What a group does for all of them stands in the trace of the first one that has one.
                let traced = waiting.iter().map(|waiting| &waiting.span).find(|span| !span.is_none()).cloned();
                let group = Box::pin(self.group(&mut waiting));
                match traced {
                    Some(span) => group.instrument(span).await,
                    None => group.await,
                }
            }
            let bytes = self.held.as_ref().map_or(0, |held| held.machine.weight());
            self.entry.usage.bytes.store(bytes, Ordering::Relaxed);
            // Another process's: nothing of it is kept.
            unload |= self.log.inner.writers == Writers::One && self.held.is_none() && !self.owes;
            if unload && Box::pin(self.unload()).await {
                return;
            }
        }
    }

    /// Says whether the log may be unloaded then.
    async fn take(&mut self, order: Order<M>, waiting: &mut Vec<Waiting<M>>) -> bool {
        match order {
            Order::Command(command) => {
                if !command.asked.forwarded {
                    self.direct_ms = self.log.inner.now_ms();
                }
                waiting.push(*command);
            }
            Order::Unload => return true,
            Order::Purge(asked, done) => {
                drop(done.send(Box::pin(self.purge(asked)).await));
                return true;
            }
            Order::Recover(done) => {
                let idle = self.held.is_none();
                let outcome = Box::pin(self.recover()).await;
                // Nobody may be listening any more: it was done all the same.
                drop(done.send(outcome));
                return idle;
            }
        }
        false
    }

    /// Refuses commands that another process handed on, if the log isn't open here, or nobody else asks for it here any more: then that
    /// process may have it, with all its rows projected. Says whether the log is to be unloaded.
    async fn leave_to_others(&mut self, waiting: &mut Vec<Waiting<M>>) -> bool {
        if self.log.inner.writers != Writers::One || !waiting.iter().any(|waiting| waiting.asked.forwarded) {
            return false;
        }
        if let Some(held) = &mut self.held {
            let unused_ms = self.log.inner.now_ms().saturating_sub(self.direct_ms);
            if unused_ms < LEFT_MS || Box::pin(self.log.note_projected(held)).await.is_err() {
                return false;
            }
            self.held = None;
            self.owes = false;
        }
        let (forwarded, own) = waiting.drain(..).partition(|waiting: &Waiting<M>| waiting.asked.forwarded);
        *waiting = own;
        fail::<M>(Vec::into_iter(forwarded), &LogError::NotHeld);
        true
    }

    /// Fences the log, whoever writes it, and sees to it that all rows are projected.
    async fn recover(&mut self) -> Result<(), LogError> {
        if let Some(held) = self.held.as_mut().filter(|_| !planted(Mutation::LoadUnfenced)) {
            match self.log.fence(&held.known).await {
                Ok(known) if known.seq() == held.known.seq() => held.known = known,
                // Somebody else has extended it, or has fenced it, or it isn't known: begun anew.
                Ok(_) | Err(_) => self.held = None,
            }
        }
        let fence = self.held.is_none();
        self.ensure(fence, None).await?;
        match &mut self.held {
            Some(held) => self.log.note_projected(held).await,
            None => Err(LogError::Ended),
        }
    }

    /// Loads the log if it isn't; finishes its purge if that was begun.
    async fn ensure(&mut self, fence: bool, claim: Option<Claim>) -> Result<(), LogError> {
        match self.load(fence, claim).await? {
            None => Ok(()),
            Some(sealed) => {
                Box::pin(self.finish_purge(&sealed)).await?;
                Err(LogError::Sealed)
            }
        }
    }

    /// Loads the log if it isn't; what is known of it if it is sealed.
    async fn load(&mut self, fence: bool, claim: Option<Claim>) -> Result<Option<Known>, LogError> {
        if self.held.is_none() {
            self.owes = true;
            match self.log.load(fence || self.doubt, claim, self.before.take().map(|before| *before)).await {
                Ok(Loaded::Held(held)) => {
                    self.held = Some(*held);
                    self.note_loaded();
                }
                Ok(Loaded::Sealed(sealed)) => return Ok(Some(sealed)),
                Err(error) => {
                    // Those of a closed process are finished by who closed it; and what another process has is that one's to finish: own
                    // rows are projected before anything else is done.
                    self.owes = !matches!(error, LogError::Closed | LogError::Elsewhere(_));
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Notes that nothing that an earlier task or a write of unknown outcome left is unfinished.
    fn note_loaded(&mut self) {
        self.doubt = false;
        self.loaded = true;
        self.entry.inner.tasks.lock().loaded(self.entry.key);
    }

    /// Ends, unless somebody has asked in the meantime or something is left to do that can be done.
    async fn unload(&mut self) -> bool {
        let mut aside = false;
        if self.owes
            && let Err(error) = self.ensure(false, None).await
            && self.owes
        {
            aside = error.is_permanent();
            if !aside {
                tracing::warn!(%error, log = %self.log.key, "a log can't be unloaded yet");
                return false;
            }
            tracing::error!(%error, log = %self.log.key, "a log can't be loaded any more: it is set aside");
        }
        if let Some(held) = &mut self.held
            && let Err(error) = self.log.note_projected(held).await
        {
            tracing::debug!(%error, log = %self.log.key, "a log can't be unloaded yet");
            return false;
        }
        let now_ms = self.log.inner.now_ms();
        let mut tasks = self.log.inner.tasks.lock();
        if !self.orders.is_empty() {
            return false;
        }
        if aside {
            tasks.set_aside(self.log.key, now_ms);
        } else {
            tasks.end(self.log.key, now_ms, self.loaded);
        }
        self.entry.ended = true;
        true
    }

    /// Answers the first of the commands, as many as fit into one append; leaves the others.
    async fn group(&mut self, waiting: &mut Vec<Waiting<M>>) {
        let (mut most, mut lost) = (waiting.len(), 0);
        let claim = waiting.iter().find_map(|waiting| waiting.asked.claim);
        loop {
            match self.load(false, claim).await {
                Ok(None) => {}
                // They needn't wait until all is gone.
                Ok(Some(sealed)) => {
                    fail::<M>(waiting.drain(..), &LogError::Sealed);
                    if let Err(error) = Box::pin(self.finish_purge(&sealed)).await {
                        tracing::error!(%error, log = %self.log.key, "a log can't be purged");
                    }
                    return;
                }
                Err(error) => return fail::<M>(waiting.drain(..), &error),
            }
            let error = match self.attempt(waiting, most).await {
                Ok(Attempt::Answered) => return,
                Ok(Attempt::Moved) if lost < TRIES_ANY => {
                    lost += 1;
                    continue;
                }
                Ok(Attempt::Lost) if self.may_retry(lost) => {
                    self.pause_after(lost).await;
                    lost += 1;
                    continue;
                }
                Ok(Attempt::Lost | Attempt::Moved) => LogError::Contended,
                // One of them is to blame, and is to fail alone: it is looked for by halves.
                Err(error) if most > 1 && error.is_permanent() => {
                    most = most.div_ceil(2);
                    continue;
                }
                Err(error) => error,
            };
            return fail::<M>(waiting.drain(..most), &error);
        }
    }

    /// Whether a group whose append was lost so often before is decided again.
    fn may_retry(&self, lost: u32) -> bool {
        let tries = if self.log.inner.writers == Writers::Any { TRIES_ANY } else { TRIES };
        lost + 1 < tries && self.log.inner.retries.take()
    }

    /// Where any process writes, losing once is no sign of a crowd.
    async fn pause_after(&mut self, lost: u32) {
        match (self.log.inner.writers, lost) {
            (Writers::Any, 0) => {}
            (Writers::Any, lost) => self.log.pause((lost - 1).min(3)).await,
            (_, lost) => self.log.pause(lost).await,
        }
    }

    /// Answers at most the first `most` of the commands.
    ///
    /// # Errors
    /// None is answered. Nothing of them is in the log, unless the error says that its outcome is unknown.
    async fn attempt(&mut self, waiting: &mut Vec<Waiting<M>>, most: usize) -> Result<Attempt, LogError> {
        let Some(mut held) = self.held.take() else { return Err(LogError::Ended) };
        let asked = &waiting[..most];
        let commands: Vec<&M::Command> = asked.iter().map(|waiting| &waiting.command).collect();
        let dedups: Vec<Option<Dedup>> = commands.iter().map(|command| held.machine.dedup(command).cloned()).collect();
        let (prepared, repeated) = tokio::join!(held.machine.prepare(&commands), self.log.old_transactions(&dedups));
        let repeated = match prepared.and(repeated) {
            Ok(repeated) => repeated,
            // What another process purged is not to be found any more.
            Err(error) if error.is_permanent() && self.has_moved(Before::of(&held)).await? => {
                return Ok(Attempt::Moved);
            }
            Err(error) => {
                self.held = Some(held);
                return Err(error);
            }
        };
        let mut group = held.decide(asked, dedups, repeated);
        let attempt = self.log.inner.next_attempt();
        group.rows.iter_mut().for_each(|row| row.attempt = attempt);
        // Whatever fails from here on, the machine is made anew: what it decided isn't in the log.
        if group.overfull {
            return Err(LogError::TooLarge("more rows than fit before a bucket's end".to_owned()));
        }
        let answered: Vec<Waiting<M>>;
        let shared = self.log.inner.writers != Writers::Alone;
        if group.rows.is_empty() && group.first == held.known.head.first {
            // What nothing was appended for isn't known to rest on what is there now, unless nobody else writes.
            if !planted(Mutation::RefuseByMemory) && self.has_moved(Before::of(&held)).await? {
                return Ok(Attempt::Moved);
            }
            answered = waiting.drain(..group.answers.len()).collect();
            self.held = Some(held);
            reply(answered, group.answers);
            return Ok(Attempt::Answered);
        }
        // A row that can't be projected would keep everybody out of the log for ever.
        let writes = self.log.projections(&held, &group.rows);
        writes.iter().try_for_each(check::write)?;
        let before = shared.then(|| Box::new(Before::of(&held)));
        if planted(Mutation::AnswerBeforeAppend) {
            let (early, answers) = (waiting.drain(..group.answers.len()).collect(), std::mem::take(&mut group.answers));
            reply(early, answers);
        }
        // Not kept unless it is known to be current: whatever fails here, the next command finds what is in the log.
        match self.log.append(&mut held, &group.rows, group.first).await? {
            Appended::Unsettled => {
                // The next load fences first, whoever's the head is; and nobody unloads the log before.
                (self.doubt, self.owes) = (true, true);
                Err(StoreError::Unknown("whether rows were appended can't be told yet".to_owned()).into())
            }
            Appended::Lost if planted(Mutation::AnswerBeforeAppend) => Ok(Attempt::Answered),
            Appended::Lost => {
                self.before = before;
                Ok(Attempt::Lost)
            }
            Appended::Durable { current } => {
                answered = waiting.drain(..group.answers.len()).collect();
                if self.finish(&mut held, group, writes, answered).await && current {
                    self.held = Some(held);
                }
                Ok(Attempt::Answered)
            }
        }
    }

    /// Whether another process has written the log since, as far as others do.
    async fn has_moved(&mut self, before: Before) -> Result<bool, LogError> {
        let moved = self.log.inner.writers != Writers::Alone && !self.log.is_current(&before.known).await?;
        if moved {
            self.before = Some(Box::new(before));
        }
        Ok(moved)
    }

    /// What follows an append. From here on nothing fails, it can only be late; unless the store refuses what its checks have
    /// passed: then the log can't be kept loaded.
    async fn finish(
        &mut self,
        held: &mut Held<M>,
        group: Group<M::Reply>,
        writes: Vec<Write>,
        answered: Vec<Waiting<M>>,
    ) -> bool {
        let Group { rows, answers, .. } = group;
        self.log.inner.retries.earn();
        held.remember(&rows);
        // However long ago it was asked for: the registry keeps what moved a moment ago.
        self.entry.usage.used_ms.fetch_max(self.log.inner.now_ms(), Ordering::Relaxed);
        if let Some(last) = rows.last().filter(|_| !planted(Mutation::AppendUntold)) {
            self.log.inner.env.moved.moved(self.log.key, last.seq);
        }
        self.log.clear(held).await;
        let (mut later, mut later_answers) = (Vec::new(), Vec::new());
        for (waiting, (answer, after_projection)) in answered.into_iter().zip(answers) {
            if after_projection && !planted(Mutation::AnswerBeforeProjection) {
                later.push(waiting);
                later_answers.push((answer, true));
            } else {
                drop(waiting.reply.send(answer));
            }
        }
        if let Err(error) = self.log.project_all(held, &rows, writes).await {
            tracing::error!(%error, log = %self.log.key, "rows can't be projected");
            self.owes = true;
            fail::<M>(later.into_iter(), &error);
            return false;
        }
        reply(later, later_answers);
        if !rows.is_empty() {
            held.machine.announce(self.log.key, &rows);
        }
        true
    }
}

/// Answers commands. Whoever doesn't listen any more asked all the same.
fn reply<M: Machine>(commands: Vec<Waiting<M>>, answers: Vec<(M::Reply, bool)>) {
    for (waiting, (answer, _)) in commands.into_iter().zip(answers) {
        drop(waiting.reply.send(answer));
    }
}

/// Answers commands that the log itself failed.
fn fail<M: Machine>(commands: impl Iterator<Item = Waiting<M>>, error: &LogError) {
    for Waiting { reply, .. } in commands {
        drop(reply.send(M::failed(error.clone())));
    }
}

// === impl Entry ===

impl<M: Machine> Drop for Entry<M> {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.tasks.lock().died(self.key, &self.usage);
        }
    }
}
