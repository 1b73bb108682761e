//! The order of the steps: a process is stopped between two of them, others do the worst meanwhile, then it goes on.
//!
//! What the model (`registry.tla`, `log.tla`) shows to lose rows when it is done differently, and what catches that here:
//!
//! | instead of what the engine does | caught by |
//! |---|---|
//! | insertRead: the head is read after the insert into the slot | `an_activation_reads_...`, `who_was_closed_...`; 1 seed in 7,800 |
//! | norebind: a fence goes on over an epoch that somebody else raised | `who_was_closed_...` |
//! | fenceInsert: the insert comes after the fence | `an_activation_reads_...`, `who_was_closed_...` |
//! | readThenClose: slots are read before they are closed | `a_slot_is_closed_before_it_is_read` |
//! | skipIfOwned: a log with a live owner isn't fenced | `what_a_dead_process_had_open_...` |
//! | unloadOwes: an activation that failed halfway is forgotten | `an_activation_that_failed_halfway_is_owed` |
//! | unloadEarly: rows whose projection failed are left | `race.rs` |
//! | carryEarly: logs are carried over before the new slot is used | `slots_roll_over_and_keep_what_is_in_use` |
//! | noSeq: an append looks at the epoch only | `of_two_appends_...` |
//! | fenceOldBucket: a full bucket is fenced in itself | `a_full_bucket_is_fenced_in_the_next_one`; 1 seed in 3,400 |
//! | posFromHead: rows that the head tells are missing, and nobody looks again | `rows_that_read_repair_...` |
//! | headAlone: a load believes a head without the rows that it tells of | `a_load_takes_no_head_without_its_rows` |
//! | d_free: a point read is used after the row that it missed has left memory | `race.rs` |
//!
//! Seeds can't catch noSeq (each writer makes an epoch of its own), fenceInsert and unloadOwes (who loses a log projects its rows
//! all the same, or the slot of whoever died has it) until a writer appends under another's epoch.

use super::*;

/// A step of a process with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ReadHead,
    /// A write to a slot of the registry.
    Slot,
    /// A write to the log.
    Log,
    Put,
}

/// The store as one process sees it, which can be stopped.
struct Stepwise {
    inner: Arc<Faulty>,
    taken: Mutex<Vec<Step>>,
    /// The process stops before (`true`) or after its next step of that kind.
    stop: Mutex<Option<(Step, bool)>>,
    stopped: AtomicBool,
    no_puts: AtomicBool,
    /// The newest row is seen by serial reads only.
    hides_newest: AtomicBool,
}

impl Stepwise {
    fn new(inner: &Arc<Faulty>) -> Arc<Self> {
        let (taken, stop) = (Mutex::default(), Mutex::default());
        let off = || AtomicBool::new(false);
        Arc::new(Self { inner: Arc::clone(inner), taken, stop, stopped: off(), no_puts: off(), hides_newest: off() })
    }

    fn stop(&self, step: Step, before: bool) {
        *self.stop.lock() = Some((step, before));
    }

    async fn until_stopped(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    async fn step(&self, step: Step, before: bool) {
        if before {
            self.taken.lock().push(step);
        }
        let stops = self.stop.lock().take_if(|stop| *stop == (step, before)).is_some();
        if stops {
            self.stopped.store(true, Ordering::Relaxed);
            while self.stopped.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[async_trait]
impl Wrap for Stepwise {
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
        let step = match table.number {
            number if number == schema::ACTIVE.number => Step::Slot,
            number if number == schema::LOG.number => Step::Log,
            _ => return self.inner.cas(table, partition, condition, changes).await,
        };
        self.step(step, true).await;
        let outcome = self.inner.cas(table, partition, condition, changes).await;
        self.step(step, false).await;
        outcome
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        self.step(Step::Put, true).await;
        if self.no_puts.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("a test's".into()));
        }
        self.inner.put(writes, durability).await
    }

    async fn on_get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError> {
        if table.number == schema::LOG.number {
            self.step(Step::ReadHead, true).await;
        }
        self.inner.get(table, partition, key, consistency).await
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        let mut page = self.inner.scan(table, partition, bounds, limit, consistency).await?;
        if self.hides_newest.load(Ordering::Relaxed) && consistency != Consistency::Serial {
            let newest = page.rows.iter().filter(|row| row.guards.is_none()).map(|row| row.key.clone()).max();
            page.rows.retain(|row| Some(&row.key) != newest.as_ref());
        }
        Ok(page)
    }
}

fn recovers(logs: &Logs<Counter>) -> [Arc<dyn Recover>; 1] {
    [Arc::new(logs.clone())]
}

fn submitted(logs: &Logs<Counter>, text: &'static str) -> tokio::task::JoinHandle<Result<Said, LogError>> {
    let logs = logs.clone();
    polity_core::tasks::spawn(async move { logs.submit(key(), say(text)).await })
}

async fn epoch(store: &Arc<Faulty>) -> i64 {
    read::newest(&**store, key(), Seq::ZERO, Consistency::Serial).await.unwrap().unwrap().head.epoch.get()
}

#[tokio::test]
async fn an_activation_reads_the_head_then_enters_its_slot_then_fences() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    until_said(&one, "first").await;
    let seen = Stepwise::new(&store);
    let (_, two, _) = process(&seen, 2, "b").await;
    seen.taken.lock().clear();
    until_said(&two, "second").await;
    let taken: Vec<Step> = seen.taken.lock().iter().copied().filter(|step| *step != Step::Put).collect();
    assert_eq!(taken, [Step::ReadHead, Step::Slot, Step::Log, Step::Log], "read, insert, fence, append");
    // Every load is one, also of a log that stands in the slot.
    assert!(two.drain(std::time::Duration::from_secs(5)).await);
    seen.taken.lock().clear();
    until_said(&two, "third").await;
    let taken: Vec<Step> = seen.taken.lock().iter().copied().filter(|step| *step != Step::Put).collect();
    assert_eq!(taken, [Step::ReadHead, Step::Slot, Step::Log], "read, insert, append");
}

#[tokio::test]
async fn who_was_closed_between_insert_and_fence_writes_nothing() {
    let store = Faulty::new();
    let (_, before, _) = process(&store, 1, "a").await;
    until_said(&before, "first").await;
    let seen = Stepwise::new(&store);
    let (registry, logs, _) = process(&seen, 2, "b").await;
    seen.stop(Step::Slot, false);
    let late = submitted(&logs, "late");
    seen.until_stopped().await;
    let (other, recoverer, _) = process(&store, 3, "c").await;
    assert_eq!(recover(&other, registry.incarnation(), &recovers(&recoverer)).await.unwrap(), 1);
    let drained = epoch(&store).await;
    seen.go_on();
    let answer = late.await.unwrap();
    assert!(matches!(answer, Ok(Err(LogError::Contended | LogError::Closed))), "{answer:?}");
    assert_eq!((texts(&store).await, epoch(&store).await), (vec!["first".to_owned()], drained));
}

#[tokio::test]
async fn a_slot_is_closed_before_it_is_read() {
    let store = Faulty::new();
    let (registry, logs, _) = process(&store, 1, "a").await;
    let seen = Stepwise::new(&store);
    let (other, recoverer, _) = process(&seen, 2, "b").await;
    seen.stop(Step::Slot, true);
    let recovered = polity_core::tasks::spawn({
        let dead = registry.incarnation();
        async move { recover(&other, dead, &recovers(&recoverer)).await }
    });
    seen.until_stopped().await;
    until_said(&logs, "first").await;
    seen.go_on();
    assert_eq!(recovered.await.unwrap().unwrap(), 1, "what was entered last is found");
    assert_eq!(epoch(&store).await, 2, "and fenced");
}

#[tokio::test]
async fn what_a_dead_process_had_open_is_fenced_also_with_a_live_owner() {
    let store = Faulty::new();
    let (dead, one, _) = process(&store, 1, "a").await;
    let (_, two, _) = process(&store, 2, "b").await;
    until_said(&one, "first").await;
    until_said(&two, "second").await;
    let owned = epoch(&store).await;
    let (third, logs, _) = process(&store, 3, "c").await;
    assert_eq!(recover(&third, dead.incarnation(), &recovers(&logs)).await.unwrap(), 1);
    assert_eq!(epoch(&store).await, owned + 1);
    assert_eq!(two.submit(key(), say("third")).await.unwrap().unwrap(), Seq::new(3), "the owner goes on");
}

#[tokio::test]
async fn an_activation_that_failed_halfway_is_owed() {
    let store = Faulty::new();
    let dying = Stepwise::new(&store);
    let (_, one, _) = process(&dying, 1, "a").await;
    dying.stop(Step::Put, true);
    let first = submitted(&one, "first");
    dying.until_stopped().await;
    let seen = Stepwise::new(&store);
    let (registry, two, announced) = process(&seen, 2, "b").await;
    seen.no_puts.store(true, Ordering::Relaxed);
    assert!(two.submit(key(), say("second")).await.unwrap().is_err());
    assert_eq!(epoch(&store).await, 2, "fenced it is");
    assert!(!two.drain(std::time::Duration::from_millis(50)).await, "its first row isn't projected");
    seen.no_puts.store(false, Ordering::Relaxed);
    assert!(two.drain(std::time::Duration::from_secs(5)).await);
    assert_eq!(announced.load(Ordering::Relaxed), 1);
    assert!(registry.leave().await.unwrap(), "nothing is left");
    first.abort();
}

#[tokio::test]
async fn of_two_appends_under_one_epoch_and_head_one_is_lost() {
    let store = Faulty::new();
    let known = append::Known::from_read(None);
    let row =
        |seq: u64, text: &str| NewRow { kind: 1, body: text.to_owned().into(), ..NewRow::default() }.at(Seq::new(seq));
    let head = |seq: u64| Head { seq: Seq::new(seq), epoch: known.epoch(), ..known.head.clone() };
    let put = async |known: &append::Known, seq: u64, text: &str| {
        append::append(&*store, key(), known, &[row(seq, text)], &head(seq)).await.unwrap()
    };
    assert_eq!(put(&known, 1, "first").await, append::Outcome::Applied);
    assert_eq!(put(&known, 1, "other").await, append::Outcome::Lost, "there was no head");
    let known = known.extended(head(1));
    assert_eq!(put(&known, 2, "second").await, append::Outcome::Applied);
    assert_eq!(put(&known, 2, "other").await, append::Outcome::Lost, "the same epoch, another head");
    assert_eq!(texts(&store).await, ["first", "second"]);
}

#[tokio::test]
async fn rows_that_read_repair_shows_late_are_looked_for_serially() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    for text in ["first", "second", "third"] {
        until_said(&logs, text).await;
    }
    let seen = Stepwise::new(&store);
    seen.hides_newest.store(true, Ordering::Relaxed);
    for after in 0..3 {
        let rows = read::after(&*seen, key(), Seq::new(after), 100, Consistency::Quorum).await.unwrap();
        assert_eq!(rows.last().map(|row| row.seq), Some(Seq::new(3)), "dense up to the head, after {after}");
        assert_eq!(rows.len() as u64, 3 - after);
    }
    // Backwards, too: who knows of a row finds it, and those before it.
    for (limit, expected) in [(1, vec![3]), (2, vec![3, 2]), (10, vec![3, 2, 1])] {
        let rows = read::back(&*seen, key(), Seq::new(3), limit).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq.get()).collect::<Vec<_>>(), expected);
    }
    assert!(read::back(&*seen, key(), Seq::new(4), 10).await.unwrap().is_empty(), "there is none yet");
}

#[tokio::test]
async fn a_load_takes_no_head_without_its_rows() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    for text in ["first", "second", "third"] {
        until_said(&one, text).await;
    }
    let seen = Stepwise::new(&store);
    seen.hides_newest.store(true, Ordering::Relaxed);
    let (_, two, announced) = process(&seen, 2, "b").await;
    assert_eq!(
        two.submit(key(), say("third")).await.unwrap().unwrap(),
        Seq::new(3),
        "it is there: the same transaction"
    );
    assert_eq!(announced.load(Ordering::Relaxed), 3, "each row that may not be projected yet");
    assert_eq!(two.submit(key(), say("fourth")).await.unwrap().unwrap(), Seq::new(4));
    assert_eq!(texts(&store).await, ["first", "second", "third", "fourth"]);
}

/// A process with this store and clock, where others may have the store open, too.
async fn on(store: &Arc<Stepwise>, clock: &Arc<ManualClock>, incarnation: u8) -> (Arc<Registry>, Logs<Counter>) {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let this = Member::new(IncarnationId::new([incarnation; 16]), "test", &incarnation.to_string(), "");
    let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
    let clock = Arc::clone(clock) as _;
    let env = Env { store, registry: Arc::clone(&registry), moved: Arc::new(Deaf), clock, shared: true };
    (registry, Logs::new(env, "counter", 100, Counter::default))
}

#[tokio::test]
async fn rows_that_are_trimmed_while_a_log_is_loaded_damage_nothing() {
    let (store, clock) = (Faulty::new(), Arc::new(ManualClock::new(0)));
    let (_, other) = on(&Stepwise::new(&store), &clock, 1).await;
    for n in 1..=6 {
        until_said(&other, &n.to_string()).await;
    }
    let seen = Stepwise::new(&store);
    let (_, loading) = on(&seen, &clock, 2).await;
    // It has read the head, and hasn't read the rows yet, none of which is noted as projected.
    seen.stop(Step::Slot, false);
    let late = submitted(&loading, "7");
    seen.until_stopped().await;
    assert_eq!(read::projected_seq(&*store, key()).await.unwrap(), Seq::ZERO);
    let trim = || Say { text: String::new(), dedup: None, trim: Some(Seq::new(4)) };
    assert_eq!(until_done(&other, trim).await, Seq::new(4));
    seen.go_on();
    assert_eq!(late.await.unwrap().unwrap().unwrap(), Seq::new(7));
    // Transactions of rows that went are known all the same.
    let again = loading.submit(key(), say("3")).await;
    assert_eq!(again.unwrap().unwrap(), Seq::new(3));
}

#[tokio::test]
async fn what_moved_a_moment_ago_stays_in_the_registry_however_long_it_took() {
    let (store, clock) = (Faulty::new(), Arc::new(ManualClock::new(0)));
    let seen = Stepwise::new(&store);
    let (registry, logs) = on(&seen, &clock, 1).await;
    // The store takes it and doesn't say so for long.
    seen.stop(Step::Log, false);
    let slow = submitted(&logs, "slow");
    seen.until_stopped().await;
    clock.advance(std::time::Duration::from_secs(100));
    seen.go_on();
    slow.await.unwrap().unwrap().unwrap();
    assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    let log = |n: u8| LogKey { log: LogId::new([n; 16]), ..key() };
    for n in 2..20 {
        logs.submit(log(n), say("first")).await.unwrap().unwrap();
    }
    polity_core::tasks::drain(std::time::Duration::from_millis(200)).await;
    let entered = registry.logs_of(registry.incarnation(), 100).await.unwrap().unwrap();
    assert!(!entered.whole, "slots were rolled over");
    assert!(entered.logs.contains(&(key().tenant, key().log)), "it moved a moment ago");
}
