//! The engine on a store in memory, with writes whose outcome is unknown, two owners, and restarts.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};
use parking_lot::Mutex;
use polity_core::{
    Classified as _, ErrorKind, IncarnationId, Life, LogId, LogKey, ManualClock, Position, Seq, Stamp, SystemRandom,
    TenantId,
};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Page, Row, Store, StoreError, Table, Values, Wrap,
    Write, WriteKind, schema, values_of,
};
use polity_store_local::LocalStore;

use super::*;

mod faulty;
mod fenced;
mod lives;
mod loaded;
mod ordered;
mod pruned;
mod purged;
mod race;
mod refused;
mod shared;
mod trimmed;

/// What happens to the next append that has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LandsUnheard,
    NeverLands,
    /// Lands only when somebody calls [`Faulty::land`].
    LandsLater,
}

/// A conditional write that hasn't started.
type Held = (&'static Table, Values, Condition, Vec<Change>);

/// A store that misbehaves as real ones do.
struct Faulty {
    inner: Arc<LocalStore>,
    next: Mutex<Option<Fault>>,
    held: Mutex<Option<Held>>,
    /// What happens to the next write of a head alone.
    alone: Mutex<Option<Fault>>,
    /// Fences of the first process find the store unavailable.
    no_fences: AtomicBool,
    /// So many scans from now on find the store unavailable.
    no_scans: AtomicU64,
    /// No projection can be written.
    no_puts: AtomicBool,
}

impl Faulty {
    fn new() -> Arc<Self> {
        let inner = LocalStore::memory(Arc::new(ManualClock::new(0)), &SystemRandom).unwrap();
        Arc::new(Self {
            inner,
            next: Mutex::default(),
            held: Mutex::default(),
            alone: Mutex::default(),
            no_fences: AtomicBool::new(false),
            no_scans: AtomicU64::new(0),
            no_puts: AtomicBool::new(false),
        })
    }

    fn fault(&self, fault: Fault) {
        *self.next.lock() = Some(fault);
    }

    /// The same for the next write of a head alone: a fence, a seal.
    fn fault_alone(&self, fault: Fault) {
        *self.alone.lock() = Some(fault);
    }

    /// From now on the first process can't fence: as if it were stopped.
    fn stop_fences(&self) {
        self.no_fences.store(true, Ordering::Relaxed);
    }

    fn go_on(&self) {
        self.no_fences.store(false, Ordering::Relaxed);
    }

    /// Lets the held write start now.
    async fn land(&self) -> Cas {
        let (table, partition, condition, changes) = self.held.lock().take().expect("a write is held");
        self.inner.cas(table, partition, condition, changes).await.unwrap()
    }
}

#[async_trait]
impl Wrap for Faulty {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        // No fence.
        let is_append = table.number == schema::LOG.number && changes.len() > 1;
        if let [Change::Put(row)] = &*changes
            && table.number == schema::LOG.number
            && self.no_fences.load(Ordering::Relaxed)
            && Head::from_row(row).is_ok_and(|head| head.writer == IncarnationId::new([1; 16]))
        {
            return Err(StoreError::Unavailable("a test's".into()));
        }
        let is_alone = table.number == schema::LOG.number && changes.len() == 1;
        let fault = match (is_append, is_alone) {
            (true, _) => self.next.lock().take(),
            (_, true) => self.alone.lock().take(),
            _ => None,
        };
        let unknown = || StoreError::Unknown("a test's".into());
        match fault {
            None => self.inner.cas(table, partition, condition, changes).await,
            Some(Fault::LandsUnheard) => {
                self.inner.cas(table, partition, condition, changes).await?;
                Err(unknown())
            }
            Some(Fault::NeverLands) => Err(unknown()),
            Some(Fault::LandsLater) => {
                *self.held.lock() = Some((table, partition, condition, changes));
                Err(unknown())
            }
        }
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        if self.no_puts.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("a test's".into()));
        }
        self.inner.put(writes, durability).await
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        let less = self.no_scans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if less.is_ok() {
            return Err(StoreError::Unavailable("a test's".into()));
        }
        self.inner.scan(table, partition, bounds, limit, consistency).await
    }
}

/// A log of texts that counts them.
#[derive(Default)]
struct Counter {
    count: u64,
    /// What "holds n" said last.
    holds: usize,
    announced: Arc<AtomicU64>,
    /// Its logs have names, "log" all of them.
    names: Option<Arc<Names>>,
}

struct Say {
    text: String,
    dedup: Option<Dedup>,
    /// Says nothing: the rows up to there go.
    trim: Option<Seq>,
}

type Said = Result<Seq, LogError>;

#[async_trait]
impl Machine for Counter {
    type Command = Say;
    type Reply = Said;

    async fn load(&mut self, _key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.count = head.map_or(0, |head| u64::from_be_bytes((&*head.state).try_into().unwrap()));
        assert_eq!(self.count, head.map_or(0, |head| head.seq.get()), "the head describes its rows");
        Ok(())
    }

    async fn prepare(&mut self, _group: &[&Say]) -> Result<(), LogError> {
        Ok(())
    }

    fn dedup<'a>(&self, command: &'a Say) -> Option<&'a Dedup> {
        command.dedup.as_ref()
    }

    fn repeated(&mut self, _command: &Say, row: &RepeatedRow) -> Said {
        Ok(row.seq)
    }

    fn decide(&mut self, command: &Say, next: Seq) -> Decision<Said> {
        assert!(command.text != "panic", "a test's");
        if let Some(up_to) = command.trim {
            return Decision::Trim { up_to, reply: Ok(up_to) };
        }
        self.count += 1;
        self.holds = command.text.strip_prefix("holds ").map_or(0, |bytes| bytes.parse().unwrap());
        let (device, txn) = command.dedup.clone().map(|dedup| (dedup.device, dedup.txn)).unzip();
        let row = NewRow { kind: 1, event_id: None, device, txn, body: command.text.clone().into() };
        Decision::Append { rows: vec![row], reply: Ok(next), after_projection: next.get().is_multiple_of(2) }
    }

    fn failed(error: LogError) -> Said {
        Err(error)
    }

    fn seal(&mut self, last: Seq) -> Result<Sealed, LogError> {
        assert_eq!(last.get(), self.count);
        Ok(Sealed { head: Bytes::copy_from_slice(&self.count.to_be_bytes()), before: Vec::new() })
    }

    async fn purge(&mut self, key: LogKey, head: &Head) -> Result<(), LogError> {
        assert_eq!(u64::from_be_bytes((&*head.state).try_into().unwrap()), head.seq.get(), "it says what is to go");
        if let Some(names) = &self.names {
            names.next_life("log", key).await?;
        }
        Ok(())
    }

    fn weight(&self) -> usize {
        self.holds
    }

    /// What begins with "note" is noted under its text.
    fn project(&self, key: LogKey, rows: &[LogRow]) -> Vec<Write> {
        let noted = rows.iter().filter(|row| row.body.starts_with(b"note"));
        let write = |row: &LogRow| Write {
            table: &schema::TRANSACTIONS,
            partition: values_of![key.tenant, key.log, "note", std::str::from_utf8(&row.body).unwrap()],
            row: Row::new(Values::new(), Bytes::new()),
            kind: WriteKind::Projection(Stamp::new(Position::new(key.life, row.seq), 1)),
        };
        noted.map(write).collect()
    }

    fn announce(&mut self, _key: LogKey, rows: &[LogRow]) {
        self.announced.fetch_add(rows.len() as u64, Ordering::Relaxed);
    }
}

struct Deaf;

impl Moved for Deaf {
    fn moved(&self, _key: LogKey, _seq: Seq) {}
}

fn key() -> LogKey {
    LogKey { tenant: TenantId::new(1), log: LogId::new([1; 16]), life: Life::FIRST }
}

async fn process<S: Store>(
    store: &Arc<S>,
    incarnation: u8,
    node: &str,
) -> (Arc<Registry>, Logs<Counter>, Arc<AtomicU64>) {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let this = Member::new(IncarnationId::new([incarnation; 16]), "test", node, "");
    let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
    let (moved, clock) = (Arc::new(Deaf), Arc::new(ManualClock::new(0)));
    let env = Env { store, registry: Arc::clone(&registry), moved, clock, shared: false };
    let announced = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&announced);
    let logs =
        Logs::new(env, "counter", 100, move || Counter { announced: Arc::clone(&counted), ..Counter::default() });
    (registry, logs, announced)
}

fn say(text: &str) -> Say {
    Say { text: text.into(), dedup: Some(Dedup { device: "d".into(), txn: text.into() }), trim: None }
}

async fn texts(store: &Arc<Faulty>) -> Vec<String> {
    let rows = read::after(&**store, key(), Seq::ZERO, 10_000, Consistency::Serial).await.unwrap();
    assert!(rows.iter().zip(1..).all(|(row, n)| row.seq == Seq::new(n)), "dense");
    rows.into_iter().map(|row| String::from_utf8(row.body.to_vec()).unwrap()).collect()
}

async fn until_done(logs: &Logs<Counter>, command: impl Fn() -> Say) -> Seq {
    for _ in 0..50 {
        if let Ok(Ok(seq)) = logs.submit(key(), command()).await {
            return seq;
        }
    }
    panic!("{} is never done", command().text);
}

/// As a client does: again until it is answered.
async fn until_said(logs: &Logs<Counter>, text: &str) -> Seq {
    until_done(logs, || say(text)).await
}

#[tokio::test]
async fn concurrent_commands_get_one_dense_order_over_buckets_and_reloads() {
    let store = Faulty::new();
    let (_, logs, announced) = process(&store, 1, "a").await;
    let mut seqs = Vec::new();
    for start in (0..2500).step_by(250) {
        let group = (start..start + 250).map(|n| {
            let logs = logs.clone();
            async move { until_said(&logs, &n.to_string()).await }
        });
        seqs.extend(futures_util::future::join_all(group).await);
    }
    seqs.sort();
    seqs.dedup();
    assert_eq!((seqs.len(), seqs.last()), (2500, Some(&Seq::new(2500))));
    assert_eq!(texts(&store).await.len(), 2500);
    assert_eq!(announced.load(Ordering::Relaxed), 2500);
    assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    assert_eq!(until_said(&logs, "more").await, Seq::new(2501));
    let back = read::back(&*store, key(), Seq::new(2501), 2000).await.unwrap();
    assert!(back.iter().zip((502..=2501).rev()).all(|(row, n)| row.seq == Seq::new(n)) && back.len() == 2000);
}

#[tokio::test]
async fn a_transaction_gives_one_row_whatever_becomes_of_its_append() {
    for fault in [Fault::LandsUnheard, Fault::NeverLands, Fault::LandsLater] {
        let store = Faulty::new();
        let (_, logs, _) = process(&store, 1, "a").await;
        until_said(&logs, "first").await;
        store.fault(fault);
        let seq = until_said(&logs, "second").await;
        if fault == Fault::LandsLater {
            // The fence came first: it can't land any more.
            assert!(matches!(store.land().await, Cas::Refused(_)));
        }
        assert_eq!(until_said(&logs, "second").await, seq, "{fault:?}");
        until_said(&logs, "third").await;
        assert_eq!(texts(&store).await, ["first", "second", "third"], "{fault:?}");
    }
}

#[tokio::test]
async fn whatever_may_rest_on_a_row_is_answered_with_it() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    store.no_puts.store(true, Ordering::Relaxed);
    // One group: the row's own answer waits for its projection, and so must that of who asks for it again.
    let mut answers: FuturesUnordered<_> = (0..2).map(|_| logs.submit(key(), say("second"))).collect();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        let early = answers.next().now_or_never().flatten();
        assert!(early.is_none(), "{:?}, which nobody can find yet", early.map(Result::unwrap));
    }
    store.no_puts.store(false, Ordering::Relaxed);
    while let Some(answer) = answers.next().await {
        assert_eq!(answer.unwrap().unwrap(), Seq::new(2));
    }
}

#[tokio::test]
async fn a_write_of_a_stopped_owner_can_not_land_after_the_next_one_took_over() {
    let store = Faulty::new();
    let (_, old, _) = process(&store, 1, "a").await;
    until_said(&old, "first").await;
    store.fault(Fault::LandsLater);
    let stopped = polity_core::tasks::spawn({
        let old = old.clone();
        async move { old.submit(key(), say("late")).await }
    });
    let (_, new, _) = process(&store, 2, "b").await;
    until_said(&new, "second").await;
    while store.held.lock().is_none() && !stopped.is_finished() {
        tokio::task::yield_now().await;
    }
    if store.held.lock().is_some() {
        assert!(matches!(store.land().await, Cas::Refused(_)));
    }
    let _ = stopped.await;
    let told = texts(&store).await;
    assert_eq!(told.iter().filter(|text| *text == "first").count(), 1);
    assert_eq!(told.iter().filter(|text| *text == "second").count(), 1);
    assert!(told.iter().filter(|text| *text == "late").count() <= 1);
}

#[tokio::test]
async fn two_owners_cost_a_retry_and_never_a_fork() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    let (_, two, _) = process(&store, 2, "b").await;
    for n in 0..100 {
        let logs = if n % 3 == 0 { &one } else { &two };
        until_said(logs, &n.to_string()).await;
        // The same transaction at the other one.
        until_said(if n % 2 == 0 { &one } else { &two }, &n.to_string()).await;
    }
    let expected: Vec<String> = (0..100).map(|n: u32| n.to_string()).collect();
    assert_eq!(texts(&store).await, expected);
}

#[tokio::test]
async fn what_a_killed_process_left_is_found_fenced_and_announced() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "first").await;
    let (next, again, announced) = process(&store, 2, "a").await;
    assert_eq!(recover_all(&next, "a", &[Arc::new(again.clone())]).await.unwrap(), 1);
    assert_eq!(announced.load(Ordering::Relaxed), 1, "the row past projected_seq");
    // Closed: it can open nothing any more, and what it has open is fenced.
    let other = LogKey { log: LogId::new([2; 16]), ..key() };
    assert!(matches!(registry.activate("counter", other).await, Err(LogError::Closed)));
    assert!(matches!(logs.submit(key(), say("stale")).await, Ok(Err(LogError::Closed))));
    assert_eq!(recover_all(&next, "a", &[Arc::new(again.clone())]).await.unwrap(), 0, "drained");
    assert_eq!(until_said(&again, "second").await, Seq::new(2));
}

#[tokio::test]
async fn names_are_given_once_and_lives_follow_each_other() {
    let store = Faulty::new();
    let names = |usage| Names::new(Arc::clone(&store) as _, Arc::new(SystemRandom), usage);
    let (here, there) = (names("room"), names("room"));
    let tenant = TenantId::new(1);
    let (one, two) = tokio::join!(here.find_or_make(tenant, "!r"), there.find_or_make(tenant, "!r"));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(names("inbox").find(tenant, "!r").await.unwrap(), None);
    assert_eq!(here.find(TenantId::new(2), "!r").await.unwrap(), None);
    let next = here.next_life("!r", one).await.unwrap().unwrap();
    assert!(next.life > one.life && next.log != one.log);
    assert_eq!(there.next_life("!r", one).await.unwrap(), None, "somebody else was first");
}
