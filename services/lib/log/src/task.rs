//! One loaded log: takes what waits as a group, appends it, projects it, answers.

use std::{collections::HashMap, sync::Arc, time::Instant};

use polity_core::{Bucket, LogKey, Seq, Stamp};
use polity_store::{Consistency, Durability, Row, Value, Values, Write, WriteKind, schema, values_of};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow,
    append::{self, GROUP_BYTES, Known, Outcome},
    logs::{Inner, Order, Waiting},
    metric, read,
};

/// The version of the projections that the engine writes itself.
const VERSION: u8 = 1;
/// `projected` is written once so many rows are; a load projects at most these again.
const PROJECTED_EVERY: u64 = 64;
/// Rows that a load reads at once.
const PAGE: usize = 500;

/// A log's task.
pub(crate) struct Task<M: Machine> {
    inner: Arc<Inner<M>>,
    key: LogKey,
    orders: mpsc::Receiver<Order<M>>,
}

/// A log that is loaded.
struct Loaded<M> {
    machine: M,
    known: Known,
    /// Transactions of rows that `projected` doesn't cover yet, and so perhaps no projection shows.
    recent: HashMap<Dedup, RepeatedRow>,
    /// What `projected` says.
    projected: Seq,
    /// Buckets from this one on may still have rows that were trimmed.
    uncleared: Bucket,
}

/// A decided group.
struct Group<M: Machine> {
    rows: Vec<LogRow>,
    bytes: usize,
    /// Up to where rows go.
    trim: Option<Seq>,
    answers: Vec<(oneshot::Sender<M::Reply>, M::Reply, bool)>,
    /// Commands for the next group: this one is full.
    rest: Vec<Waiting<M>>,
    /// Whether a command gave more rows than fit before the bucket's end.
    overfull: bool,
}

// === impl Task ===

impl<M: Machine> Task<M> {
    pub(crate) fn new(inner: Arc<Inner<M>>, key: LogKey, orders: mpsc::Receiver<Order<M>>) -> Self {
        Self { inner, key, orders }
    }

    pub(crate) async fn run(mut self) {
        let mut loaded: Option<Loaded<M>> = None;
        let mut waiting: Vec<Waiting<M>> = Vec::new();
        while let Some(order) = self.orders.recv().await {
            let mut unload = false;
            self.take(order, &mut loaded, &mut waiting, &mut unload).await;
            while waiting.len() < append::GROUP_ROWS
                && let Ok(order) = self.orders.try_recv()
            {
                self.take(order, &mut loaded, &mut waiting, &mut unload).await;
            }
            while !waiting.is_empty() {
                waiting = self.group(&mut loaded, waiting).await;
            }
            if unload && self.unload(&mut loaded).await {
                break;
            }
        }
        metrics::gauge!(metric::LOADED, "use" => self.inner.usage).decrement(1.0);
    }

    async fn take(
        &self,
        order: Order<M>,
        loaded: &mut Option<Loaded<M>>,
        waiting: &mut Vec<Waiting<M>>,
        unload: &mut bool,
    ) {
        match order {
            Order::Command(command) => waiting.push(*command),
            Order::Unload => *unload = true,
            Order::Recover(done) => {
                let outcome = match self.ensure(loaded).await {
                    Ok(log) => self.note_projected(log).await,
                    Err(error) => Err(error),
                };
                let _ = done.send(outcome);
            }
        }
    }

    /// Ends, unless somebody has asked in the meantime.
    async fn unload(&self, loaded: &mut Option<Loaded<M>>) -> bool {
        if let Some(log) = loaded
            && let Err(error) = self.note_projected(log).await
        {
            tracing::debug!(%error, log = %self.key, "not unloaded");
            return false;
        }
        let mut map = self.inner.loaded.lock();
        if !self.orders.is_empty() {
            return false;
        }
        map.remove(&self.key);
        true
    }

    /// The log, loaded if it wasn't. An activation: read the head, enter it in the registry, then fence.
    async fn ensure<'a>(&self, loaded: &'a mut Option<Loaded<M>>) -> Result<&'a mut Loaded<M>, LogError> {
        if loaded.is_none() {
            *loaded = Some(self.load().await?);
        }
        loaded.as_mut().ok_or(LogError::Ended)
    }

    async fn load(&self) -> Result<Loaded<M>, LogError> {
        let env = &self.inner.env;
        let store = &*env.store;
        let projected = read::projected_seq(store, self.key).await?;
        let found = read::head(store, self.key, projected, Consistency::Serial).await?;
        env.registry.activate(self.inner.usage, self.key).await?;
        let mut known = match found {
            Some(found) if found.head.epoch.is_sealed() => return Err(LogError::Sealed),
            Some(found) => Known { head: Some(found.head), bucket: found.bucket },
            None => Known { head: None, bucket: polity_core::Bucket::FIRST },
        };
        // Whoever wrote it may still be about to: after the fence he can't.
        if known.head.as_ref().is_some_and(|head| head.writer != env.registry.incarnation()) {
            known = self.fence(&known).await?;
        }
        let tail = self.rows_after(projected, known.seq()).await?;
        let mut machine = (self.inner.make)();
        machine.load(self.key, known.head.as_ref(), &tail).await?;
        // The bucket before the oldest row's: a process may have died before it cleared that one.
        let uncleared = Bucket::new(known.first().bucket().get().saturating_sub(1));
        let mut log = Loaded { machine, known, recent: HashMap::new(), projected, uncleared };
        log.remember(&tail);
        self.project(&mut log, &tail).await?;
        if let Some(last) = tail.last() {
            env.moved.moved(self.key, last.seq);
            log.machine.announce(self.key, &tail);
        }
        Ok(log)
    }

    async fn fence(&self, known: &Known) -> Result<Known, LogError> {
        metrics::counter!(metric::FENCES, "use" => self.inner.usage).increment(1);
        let env = &self.inner.env;
        append::fence(&*env.store, self.key, known, env.registry.incarnation()).await
    }

    /// All rows with `after < seq <= to`: a log doesn't lose any, so fewer are an error.
    async fn rows_after(&self, after: Seq, to: Seq) -> Result<Vec<LogRow>, LogError> {
        let mut rows: Vec<LogRow> = Vec::new();
        let mut at = after;
        while at < to {
            let page = read::after(&*self.inner.env.store, self.key, at, PAGE, Consistency::Serial).await?;
            let Some(last) = page.last() else {
                return Err(LogError::Corrupt(format!("row {} of {} is missing", at.next(), self.key)));
            };
            at = last.seq;
            rows.extend(page);
        }
        rows.retain(|row| row.seq <= to);
        Ok(rows)
    }

    /// Answers a group of commands; gives back those that didn't fit.
    async fn group(&self, loaded: &mut Option<Loaded<M>>, waiting: Vec<Waiting<M>>) -> Vec<Waiting<M>> {
        let refused = |error: &LogError, waiting: Vec<Waiting<M>>| {
            for Waiting { reply, .. } in waiting {
                let _ = reply.send(M::failed(error.clone()));
            }
            Vec::new()
        };
        let log = match self.ensure(loaded).await {
            Ok(log) => log,
            Err(error) => return refused(&error, waiting),
        };
        let commands: Vec<&M::Command> = waiting.iter().map(|waiting| &waiting.command).collect();
        let dedups: Vec<Option<Dedup>> = commands.iter().map(|command| log.machine.dedup(command).cloned()).collect();
        let (prepared, repeated) = tokio::join!(log.machine.prepare(&commands), self.old_transactions(&dedups));
        let repeated = match prepared.and(repeated) {
            Ok(repeated) => repeated,
            Err(error) => return refused(&error, waiting),
        };
        let group = log.decide(waiting, dedups, repeated);
        if group.overfull {
            *loaded = None;
            let error = LogError::TooLarge("more rows than fit before a bucket's end".to_owned());
            group.answers.into_iter().for_each(|(reply, _, _)| drop(reply.send(M::failed(error.clone()))));
            return group.rest;
        }
        if group.rows.is_empty() && group.trim.is_none() {
            group.answers.into_iter().for_each(|(reply, answer, _)| drop(reply.send(answer)));
            return group.rest;
        }
        let (answers, rest) = match self.append(log, group).await {
            Ok(done) => done,
            Err((error, answers, rest)) => {
                // What was decided isn't in the log: the machine is made anew from what is.
                *loaded = None;
                for (reply, _, _) in answers {
                    let _ = reply.send(M::failed(error.clone()));
                }
                return rest;
            }
        };
        for (reply, answer, _) in answers {
            let _ = reply.send(answer);
        }
        rest
    }

    /// Rows of earlier transactions, from the projection: for those that no row in memory answers.
    async fn old_transactions(&self, dedups: &[Option<Dedup>]) -> Result<Vec<Option<RepeatedRow>>, LogError> {
        let reads = dedups.iter().map(|dedup| async move {
            let Some(dedup) = dedup else { return Ok(None) };
            let partition = values_of![self.key.tenant, self.key.log, &*dedup.device, &*dedup.txn];
            let store = &self.inner.env.store;
            let row = store.get(&schema::TRANSACTIONS, partition, Values::new(), Consistency::Quorum).await?;
            Ok(row.and_then(|row| repeated_of(&row)))
        });
        futures_util::future::try_join_all(reads).await
    }
}

type Answers<M> = Vec<(oneshot::Sender<<M as Machine>::Reply>, <M as Machine>::Reply, bool)>;

impl<M: Machine> Task<M> {
    /// Makes a group durable and projects it.
    async fn append(
        &self,
        log: &mut Loaded<M>,
        group: Group<M>,
    ) -> Result<(Answers<M>, Vec<Waiting<M>>), (LogError, Answers<M>, Vec<Waiting<M>>)> {
        let Group { rows, trim, answers, rest, .. } = group;
        match self.append_rows(log, &rows, trim).await {
            Ok(()) => {}
            Err(error) => return Err((error, answers, rest)),
        }
        if let Some(last) = rows.last() {
            self.inner.env.moved.moved(self.key, last.seq);
        }
        if let Err(error) = self.project(log, &rows).await {
            // The rows are durable and will be projected by the next load; who waits for that learns that it is late.
            return Err((error, answers, rest));
        }
        log.machine.announce(self.key, &rows);
        Ok((answers, rest))
    }

    async fn append_rows(&self, log: &mut Loaded<M>, rows: &[LogRow], trim: Option<Seq>) -> Result<(), LogError> {
        let env = &self.inner.env;
        let first = log.known.first().max(trim.unwrap_or(Seq::ZERO).min(log.known.seq()).next());
        if first > log.projected.next() {
            // What goes can't be projected any more.
            self.note_projected(log).await?;
        }
        let last = rows.last().map_or(log.known.seq(), |row| row.seq);
        let sealed = log.machine.seal(last)?;
        if !sealed.before.is_empty() {
            env.store.put(sealed.before, Durability::Acknowledged).await?;
        }
        // A head that differs in nothing that others look at would be overlooked by them.
        let epoch = if rows.is_empty() { log.known.epoch().next() } else { log.known.epoch() };
        let head = Head { seq: last, epoch, first, writer: env.registry.incarnation(), state: sealed.head };
        let began = Instant::now();
        let outcome = append::append(&*env.store, self.key, &log.known, rows, &head).await?;
        metrics::histogram!(metric::APPEND_SECONDS, "use" => self.inner.usage).record(began.elapsed().as_secs_f64());
        metrics::histogram!(metric::GROUP, "use" => self.inner.usage)
            .record(f64::from(u32::try_from(rows.len()).unwrap_or(0)));
        match outcome {
            Outcome::Applied => log.known = log.known.extended(head),
            Outcome::Lost => {
                metrics::counter!(metric::LOST, "use" => self.inner.usage).increment(1);
                return Err(LogError::Contended);
            }
            Outcome::Unknown => {
                let fenced = self.fence(&log.known).await?;
                let landed = self.rows_after(log.known.seq(), fenced.seq()).await?;
                // It landed whole or not at all; if not, the fence has seen to it that it never will.
                if landed.get(..rows.len()) != Some(rows) || fenced.first() < first {
                    return Err(LogError::Contended);
                }
                log.known = fenced;
            }
        }
        log.remember(rows);
        self.clear(log).await;
        Ok(())
    }

    /// Deletes what was trimmed from buckets that are full. What fails is left to the next trim.
    async fn clear(&self, log: &mut Loaded<M>) {
        let first = log.known.first();
        while log.uncleared.next().first_seq() <= first && log.uncleared < log.known.bucket {
            if let Err(error) = append::clear(&*self.inner.env.store, self.key, log.uncleared, first).await {
                tracing::debug!(%error, log = %self.key, "a trimmed bucket isn't cleared yet");
                return;
            }
            log.uncleared = log.uncleared.next();
        }
    }

    /// Writes the projections of `rows`, which stand in the log.
    async fn project(&self, log: &mut Loaded<M>, rows: &[LogRow]) -> Result<(), LogError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let mut writes = log.machine.project(self.key, rows);
        writes.extend(rows.iter().filter_map(|row| self.transaction(row)));
        self.inner.env.store.put(writes, Durability::Rebuildable).await?;
        if last.seq.get() - log.projected.get() >= PROJECTED_EVERY {
            self.note_projected(log).await?;
        }
        Ok(())
    }

    /// Notes that all rows up to the head are projected: after they are.
    async fn note_projected(&self, log: &mut Loaded<M>) -> Result<(), LogError> {
        let seq = log.known.seq();
        if seq <= log.projected {
            return Ok(());
        }
        let write = Write {
            table: &schema::PROJECTED,
            partition: values_of![self.key.tenant, self.key.log],
            row: Row::new(Values::new(), bytes::Bytes::new()).with_columns(vec![Some(Value::Int(seq.to_i64()))]),
            kind: WriteKind::Projection(Stamp::new(polity_core::Position::new(self.key.life, seq), VERSION)),
        };
        self.inner.env.store.put(vec![write], Durability::Rebuildable).await?;
        log.projected = seq;
        log.recent.clear();
        Ok(())
    }

    fn transaction(&self, row: &LogRow) -> Option<Write> {
        let (device, txn) = (row.device.as_deref()?, row.txn.as_deref()?);
        let event_id = row.event_id.as_deref().map(Value::from);
        let columns = vec![event_id, Some(Value::Int(row.seq.to_i64()))];
        Some(Write {
            table: &schema::TRANSACTIONS,
            partition: values_of![self.key.tenant, self.key.log, device, txn],
            row: Row::new(Values::new(), bytes::Bytes::new()).with_columns(columns),
            kind: WriteKind::Projection(Stamp::new(polity_core::Position::new(self.key.life, row.seq), VERSION)),
        })
    }
}

// === impl Loaded ===

impl<M: Machine> Loaded<M> {
    fn remember(&mut self, rows: &[LogRow]) {
        for row in rows {
            if let (Some(device), Some(txn)) = (&row.device, &row.txn) {
                let dedup = Dedup { device: device.clone(), txn: txn.clone() };
                self.recent.entry(dedup).or_insert(RepeatedRow { seq: row.seq, event_id: row.event_id.clone() });
            }
        }
    }

    /// Decides as many commands as fit into one append.
    fn decide(
        &mut self,
        waiting: Vec<Waiting<M>>,
        dedups: Vec<Option<Dedup>>,
        old: Vec<Option<RepeatedRow>>,
    ) -> Group<M> {
        let mut group =
            Group { rows: Vec::new(), bytes: 0, trim: None, answers: Vec::new(), rest: Vec::new(), overfull: false };
        let mut in_group: HashMap<Dedup, RepeatedRow> = HashMap::new();
        let room = self.known.room();
        for ((waiting, dedup), old) in waiting.into_iter().zip(dedups).zip(old) {
            if !group.rest.is_empty() || group.rows.len() >= room || group.bytes >= GROUP_BYTES / 2 {
                group.rest.push(waiting);
                continue;
            }
            let Waiting { command, reply } = waiting;
            let known =
                dedup.as_ref().and_then(|dedup| in_group.get(dedup).or_else(|| self.recent.get(dedup)).cloned());
            if let Some(row) = known.or(old) {
                let answer = self.machine.repeated(&command, &row);
                group.answers.push((reply, answer, false));
                continue;
            }
            let next = self.known.seq().plus(1 + group.rows.len() as u64);
            match self.machine.decide(&command, next) {
                Decision::Reply(answer) => group.answers.push((reply, answer, false)),
                Decision::Trim { up_to, reply: answer } => {
                    group.trim = group.trim.max(Some(up_to));
                    group.answers.push((reply, answer, false));
                }
                Decision::Append { rows, reply: answer, after_projection } => {
                    if let (Some(dedup), Some(first)) = (dedup, rows.first()) {
                        in_group.insert(dedup, RepeatedRow { seq: next, event_id: first.event_id.clone() });
                    }
                    group.push(rows, next);
                    group.overfull |= group.rows.len() > room;
                    group.answers.push((reply, answer, after_projection));
                }
            }
        }
        group
    }
}

// === impl Group ===

impl<M: Machine> Group<M> {
    fn push(&mut self, rows: Vec<NewRow>, first: Seq) {
        self.bytes += rows.iter().map(NewRow::size).sum::<usize>();
        self.rows.extend(rows.into_iter().zip(0..).map(|(row, at)| row.at(first.plus(at))));
    }
}

fn repeated_of(row: &Row) -> Option<RepeatedRow> {
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
    let seq = Seq::new(column(1)?.as_int()?.cast_unsigned());
    Some(RepeatedRow { seq, event_id: column(0).and_then(Value::as_text).map(Box::from) })
}
