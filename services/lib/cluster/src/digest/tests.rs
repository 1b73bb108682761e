//! Several processes on one store in memory, over transports in memory and a bus that can be off.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use polity_bus::{Bus, LocalBus};
use polity_core::{Clock, IncarnationId, LogId, Seq, SystemClock, SystemRandom, TenantId, tasks};
use polity_log::{Member, Registry};
use polity_proto::Transport;
use polity_store::{Cas, Change, Condition, Consistency, Expect, Row, Store, Value, schema, values_of};
use polity_store_local::LocalStore;

use super::*;
use crate::{ClusterService, kind};

const TENANT: TenantId = TenantId::new(1);

/// What an instance knows.
#[derive(Default)]
struct Map {
    heads: Mutex<HashMap<LogId, Seq>>,
    marks: AtomicU64,
    /// How often everything, and how often some logs were forgotten.
    forgotten: Mutex<(u32, Vec<LogId>)>,
}

impl Follow for Map {
    fn others(&self, entries: &[Entry]) {
        for entry in entries {
            match *entry {
                Entry::Head { log, seq, .. } => {
                    let mut heads = self.heads.lock();
                    let known = heads.entry(log).or_insert(seq);
                    *known = seq.max(*known);
                }
                Entry::Mark(_) => drop(self.marks.fetch_add(1, Ordering::Relaxed)),
                Entry::Later(_) => {}
            }
        }
    }

    fn own(&self, _entries: &[Entry]) {}

    fn forget(&self, logs: &[(TenantId, LogId)]) {
        self.heads.lock().retain(|log, _| !logs.contains(&(TENANT, *log)));
        self.forgotten.lock().1.extend(logs.iter().map(|(_, log)| *log));
    }

    fn forget_all(&self) {
        self.heads.lock().clear();
        self.forgotten.lock().0 += 1;
    }
}

impl Map {
    fn head(&self, log: u8) -> Option<u64> {
        self.heads.lock().get(&LogId::new([log; 16])).map(|seq| seq.get())
    }
}

#[derive(Default)]
struct Network {
    processes: Mutex<HashMap<String, Transport>>,
}

/// A process that writes.
struct Writer {
    journal: Arc<Journal>,
    registry: Arc<Registry>,
    hangs: Arc<AtomicBool>,
    /// Each answer takes 200 ms.
    slow: Arc<AtomicBool>,
}

struct Cluster {
    store: Arc<dyn Store>,
    bus: Arc<LocalBus>,
    network: Arc<Network>,
}

impl Cluster {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = LocalStore::memory(clock, &SystemRandom).unwrap();
        Self { store, bus: Arc::new(LocalBus::new()), network: Arc::default() }
    }

    async fn writer(&self, n: u8) -> Writer {
        self.writer_of(kind::ROOM_STATE, n).await
    }

    async fn writer_of(&self, kind: &str, n: u8) -> Writer {
        let incarnation = IncarnationId::new([n; 16]);
        let address = format!("writer-{n}:1");
        let member = Member::new(incarnation, kind, &n.to_string(), &address);
        let registry = Registry::join(Arc::clone(&self.store), &member).await.unwrap();
        let journal = Journal::new(incarnation);
        let (hangs, slow) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let server = ClusterService::new(Arc::clone(&journal)).server();
        let (hung, delayed) = (Arc::clone(&hangs), Arc::clone(&slow));
        let hanging = tower::service_fn(move |request| {
            let mut server = server.clone();
            let (hung, delayed) = (hung.load(Ordering::Relaxed), delayed.load(Ordering::Relaxed));
            async move {
                if delayed {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                if hung {
                    std::future::pending::<()>().await;
                }
                tower::Service::call(&mut server, request).await
            }
        });
        self.network.processes.lock().insert(address, polity_proto::local(hanging));
        Writer { journal, registry, hangs, slow }
    }

    /// Enters a log into a process's first slot.
    async fn enter(&self, writer: &Writer, log: LogId) {
        let incarnation = bytes::Bytes::copy_from_slice(writer.journal.incarnation().as_bytes());
        let columns = vec![Some(Value::from(TENANT)), Some(Value::from(log)), Some(Value::Int(1))];
        let row = Row::new(values_of![format!("room/{log}")], bytes::Bytes::new()).with_columns(columns);
        let condition = Condition { row: values_of![""], expect: Expect::Guards(1, 0) };
        let partition = values_of![incarnation, 1_i64];
        let entered = self.store.cas(&schema::ACTIVE, partition, condition, vec![Change::Put(row)]).await.unwrap();
        assert_eq!(entered, Cas::Applied);
    }

    /// A process has dropped its first slot, as it does after many logs.
    async fn drop_first_slot(&self, writer: &Writer) {
        let incarnation = bytes::Bytes::copy_from_slice(writer.journal.incarnation().as_bytes());
        let (partition, key) = (values_of!["polity"], values_of![incarnation]);
        let row = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await.unwrap();
        let mut row = row.unwrap().guarded(0, 2);
        row.columns[3] = Some(Value::Int(2));
        let condition = Condition { row: key, expect: Expect::Guards(0, 1) };
        let raised = self.store.cas(&schema::MEMBERS, partition, condition, vec![Change::Put(row)]).await.unwrap();
        assert_eq!(raised, Cas::Applied);
    }

    /// An instance that reads, and follows.
    async fn reader(&self, n: u8) -> (Arc<Flush>, Arc<Map>) {
        let member = Member::new(IncarnationId::new([n; 16]), kind::CLIENT_API, &n.to_string(), "");
        let registry = Registry::join(Arc::clone(&self.store), &member).await.unwrap();
        let (map, network) = (Arc::new(Map::default()), Arc::clone(&self.network));
        let connect = move |address: &str| network.processes.lock()[address].clone();
        let flush = Flush::new(registry, Arc::new(connect), Arc::clone(&map) as _);
        let (running, bus) = (Arc::clone(&flush), Arc::clone(&self.bus));
        tasks::spawn(async move { running.run(&*bus).await });
        (flush, map)
    }
}

impl Writer {
    fn wrote(&self, log: u8, seq: u64) {
        self.journal.note(Entry::Head { tenant: TENANT, log: LogId::new([log; 16]), seq: Seq::new(seq) });
    }

    fn publish(&self, cluster: &Cluster) {
        tasks::spawn(publish(Arc::clone(&self.journal), Arc::clone(&cluster.bus) as _, None));
    }
}

#[test]
fn a_digest_is_read_as_it_was_written() {
    let entries =
        vec![Entry::Head { tenant: TENANT, log: LogId::new([9; 16]), seq: Seq::new(1 << 33) }, Entry::Mark(0xffff)];
    let digest = Digest { incarnation: IncarnationId::new([1; 16]), first: 7, entries };
    assert_eq!((Digest::decode(&digest.encode()), digest.last()), (Ok(digest.clone()), 8));
    let empty = Digest { entries: Vec::new(), ..digest };
    assert_eq!((Digest::decode(&empty.encode()), empty.last()), (Ok(empty.clone()), 6));
    assert_eq!(Digest::decode(b"\x02"), Err(InvalidDigest));
    let entries = vec![Entry::Mark(1), Entry::Later(300), Entry::Mark(2)];
    let later = Digest { entries, ..empty };
    let (bytes, last) = ([&later.encode()[..], b"what a later version has at the end"].concat(), later.last());
    assert_eq!((Digest::decode(&bytes), last), (Ok(later), 9));
    let absurd = Entry::Head { tenant: TENANT, log: LogId::new([9; 16]), seq: Seq::new(u64::MAX >> 2) };
    assert_eq!(Digest::decode(&Digest { entries: vec![absurd], ..empty }.encode()), Err(InvalidDigest));
}

#[test]
fn whoever_asks_for_what_was_never_written_begins_anew() {
    let journal = Journal::new(IncarnationId::new([1; 16]));
    for written in [0, 3, 200] {
        (0..written).for_each(|_| journal.note(Entry::Mark(1)));
        for after in [u64::MAX, u64::MAX - 1, 1 << 40] {
            let pulled = journal.pulled(after);
            assert!(pulled.lost && pulled.last < 1 << 40, "{pulled:?}");
        }
    }
}

#[tokio::test]
async fn who_was_answered_is_seen_by_whoever_asks_then() {
    let cluster = Cluster::new();
    let (flush, map) = cluster.reader(1).await;
    let first = cluster.writer(2).await;
    for seq in 1..=20 {
        // More than are told at once, in the end.
        first.wrote(7, seq);
        flush.join(Asked::Everybody).await;
        assert_eq!(map.head(7), Some(seq));
    }
    for log in 100..140 {
        first.wrote(log, 1);
    }
    // A process that nobody has heard of.
    let second = cluster.writer(3).await;
    second.wrote(8, 5);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(139), map.head(8)), (Some(1), Some(5)));
    second.wrote(8, 4);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(8), map.forgotten.lock().0), (Some(5), 0));
}

#[tokio::test]
async fn requests_share_a_round_that_is_not_issued_yet() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    flush.join(Asked::Everybody).await;
    let before = flush.rounds_issued();
    let all: Vec<_> = (0..500).map(|_| Arc::clone(&flush)).collect();
    writer.wrote(7, 1);
    futures_util::future::join_all(all.iter().map(|flush| flush.join(Asked::Everybody))).await;
    assert!(flush.rounds_issued() - before <= 3, "{}", flush.rounds_issued() - before);
    assert_eq!(map.head(7), Some(1));
}

#[tokio::test]
async fn who_needs_users_records_alone_does_not_ask_who_writes_rooms() {
    let cluster = Cluster::new();
    let (rooms, users) = (cluster.writer(2).await, cluster.writer_of(kind::CLIENT_API, 3).await);
    let (flush, map) = cluster.reader(1).await;
    flush.join(Asked::Everybody).await;
    for seq in 1..=10 {
        rooms.wrote(7, seq);
        users.wrote(8, seq);
        flush.join(Asked::Users).await;
        assert_eq!((map.head(7), map.head(8)), ((seq > 1).then(|| seq - 1), Some(seq)));
        // Such a round isn't enough for who needs all, even where both wait for the same one.
        let both = (flush.join(Asked::Users), flush.join(Asked::Everybody));
        futures_util::join!(both.0, both.1);
        assert_eq!(map.head(7), Some(seq));
    }
    // Who doesn't answer holds nobody up that doesn't need it; and the others hear of what was written within a second.
    rooms.hangs.store(true, Ordering::Relaxed);
    let asked = tokio::time::Instant::now();
    flush.join(Asked::Users).await;
    assert!(asked.elapsed() < Duration::from_millis(80), "{:?}", asked.elapsed());
    rooms.hangs.store(false, Ordering::Relaxed);
    rooms.wrote(7, 11);
    let until = tokio::time::Instant::now() + Duration::from_millis(2_500);
    while map.head(7) != Some(11) && tokio::time::Instant::now() < until {
        flush.join(Asked::Users).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(map.head(7), Some(11));
}

#[tokio::test]
async fn what_the_bus_lost_is_asked_for() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    flush.join(Asked::Everybody).await;
    writer.wrote(7, 1);
    writer.publish(&cluster);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(map.head(7), Some(1), "told by the bus, without a request");
    // Lost: the next digest shows the hole.
    writer.wrote(7, 2);
    cluster.bus.publish(polity_bus::Subject::DIGESTS, {
        writer.wrote(7, 3);
        Digest { incarnation: writer.journal.incarnation(), first: 3, entries: Vec::new() }.encode()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(map.head(7), Some(3));
    // Without any bus it takes a second.
    let silent = cluster.writer(3).await;
    silent.wrote(8, 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!((map.head(8), map.forgotten.lock().0), (Some(1), 0));
}

#[tokio::test]
async fn who_is_too_far_behind_reads_anew() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    writer.wrote(7, 1);
    let (flush, map) = cluster.reader(1).await;
    flush.join(Asked::Everybody).await;
    assert_eq!(map.head(7), Some(1));
    for log in 0..200 {
        writer.wrote(log, 2);
    }
    flush.join(Asked::Everybody).await;
    assert_eq!((map.heads.lock().len(), map.forgotten.lock().0), (0, 1));
    writer.wrote(9, 3);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(9), map.forgotten.lock().0), (Some(3), 1));
}

#[tokio::test]
async fn who_has_too_much_to_do_is_waited_for() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    flush.join(Asked::Everybody).await;
    writer.slow.store(true, Ordering::Relaxed);
    for seq in 1..4 {
        writer.wrote(7, seq);
        flush.join(Asked::Everybody).await;
        assert_eq!((map.head(7), map.forgotten.lock().clone()), (Some(seq), (0, Vec::new())));
    }
}

#[tokio::test]
async fn what_a_silent_process_may_have_written_is_forgotten() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    writer.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    let log = LogId::new([7; 16]);
    cluster.enter(&writer, log).await;
    writer.hangs.store(true, Ordering::Relaxed);
    flush.join(Asked::Everybody).await;
    assert_eq!(*map.forgotten.lock(), (0, vec![log]));
    // Again for each round: it may be writing still.
    flush.join(Asked::Everybody).await;
    assert_eq!(map.forgotten.lock().1.len(), 2);
    // Back again, it tells what was missing.
    writer.wrote(7, 2);
    writer.hangs.store(false, Ordering::Relaxed);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().1.len()), (Some(2), 2));
    // Hanging for so long that its slots may have lost logs: all of them are told of still.
    writer.hangs.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    flush.join(Asked::Everybody).await;
    assert_eq!((map.forgotten.lock().0, map.head(8)), (0, None));
}

#[tokio::test]
async fn an_old_digest_makes_nobody_believe_that_a_silent_process_is_followed() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    writer.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    cluster.enter(&writer, LogId::new([7; 16])).await;
    writer.hangs.store(true, Ordering::Relaxed);
    let old = writer.journal.after(0).digest.encode();
    // What it said last is on its way for long, and comes again and again.
    for _ in 0..6 {
        cluster.bus.publish(polity_bus::Subject::DIGESTS, old.clone());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let before = map.forgotten.lock().clone();
    flush.join(Asked::Everybody).await;
    assert_ne!(*map.forgotten.lock(), before, "it may have written meanwhile");
}

#[tokio::test]
async fn who_was_closed_knows_it_before_it_answers_what_it_wrote() {
    let cluster = Cluster::new();
    let other = cluster.writer(2).await;
    let (flush, _) = cluster.reader(1).await;
    assert!(flush.still_asked().await);
    let rounds = flush.rounds_issued();
    assert!(flush.still_asked().await);
    assert_eq!(flush.rounds_issued(), rounds, "it was looked a moment ago");
    // Stopped for long, and closed.
    other.registry.close(IncarnationId::new([1; 16])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(!flush.still_asked().await);
}

#[tokio::test]
async fn who_answers_something_else_than_he_was_asked_is_not_followed() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    writer.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    cluster.enter(&writer, LogId::new([7; 16])).await;
    // It tells of what comes later, and not of what is asked.
    let later = Digest { incarnation: writer.journal.incarnation(), first: 9, entries: vec![Entry::Mark(1)] };
    let faulty = Faulty(polity_proto::cluster::PullResponse { last: 9, lost: false, digest: later.encode() });
    let server = polity_proto::cluster::cluster_server::ClusterServer::new(faulty);
    cluster.network.processes.lock().insert("writer-2:1".to_owned(), polity_proto::local(server));
    let before = map.forgotten.lock().clone();
    flush.join(Asked::Everybody).await;
    assert_ne!(*map.forgotten.lock(), before);
}

/// A process that answers whatever it is asked with the same.
struct Faulty(polity_proto::cluster::PullResponse);

#[tonic::async_trait]
impl polity_proto::cluster::cluster_server::Cluster for Faulty {
    async fn ping(
        &self,
        _: tonic::Request<polity_proto::cluster::PingRequest>,
    ) -> Result<tonic::Response<polity_proto::cluster::PingResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn pull(
        &self,
        _: tonic::Request<polity_proto::cluster::PullRequest>,
    ) -> Result<tonic::Response<polity_proto::cluster::PullResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.0.clone()))
    }
}

#[tokio::test]
async fn of_one_that_never_answered_only_its_logs_are_forgotten_unless_it_dropped_a_slot() {
    let cluster = Cluster::new();
    let (flush, map) = cluster.reader(1).await;
    let known = cluster.writer(2).await;
    known.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    let silent = cluster.writer(3).await;
    silent.hangs.store(true, Ordering::Relaxed);
    let log = LogId::new([8; 16]);
    cluster.enter(&silent, log).await;
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().clone()), (Some(1), (0, vec![log])));
    // Another one has dropped its first slot before it was heard of: once all is forgotten, and then what it has open.
    let older = cluster.writer(4).await;
    older.hangs.store(true, Ordering::Relaxed);
    cluster.drop_first_slot(&older).await;
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().0), (None, 1));
    known.wrote(7, 2);
    flush.join(Asked::Everybody).await;
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().0), (Some(2), 1));
}

#[tokio::test]
async fn who_left_in_order_takes_nothing_along() {
    let cluster = Cluster::new();
    let (flush, map) = cluster.reader(1).await;
    let [staying, leaving, quiet] = [cluster.writer(2).await, cluster.writer(3).await, cluster.writer(4).await];
    staying.wrote(7, 1);
    leaving.wrote(8, 1);
    flush.join(Asked::Everybody).await;
    // What it wrote last is asked for, as long as it is there.
    cluster.enter(&leaving, LogId::new([9; 16])).await;
    leaving.wrote(9, 1);
    for writer in [&leaving, &quiet] {
        assert!(writer.registry.leave_after(|| writer.journal.end()).await.unwrap());
    }
    flush.join(Asked::Everybody).await;
    leaving.hangs.store(true, Ordering::Relaxed);
    flush.join(Asked::Everybody).await;
    assert_eq!([7, 8, 9].map(|log| map.head(log)), [Some(1); 3]);
    assert_eq!(*map.forgotten.lock(), (0, Vec::new()));
    // Or told by the bus.
    let told = cluster.writer(5).await;
    flush.join(Asked::Everybody).await;
    told.wrote(10, 1);
    told.journal.tell_last(&*cluster.bus);
    told.hangs.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    told.registry.leave_after(|| told.journal.end()).await.unwrap();
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(10), map.forgotten.lock().0), (Some(1), 0));
    // Who is gone before it could be asked: what it had open is forgotten, and nothing else.
    let gone = cluster.writer(6).await;
    let log = LogId::new([11; 16]);
    cluster.enter(&gone, log).await;
    gone.wrote(11, 1);
    gone.hangs.store(true, Ordering::Relaxed);
    gone.registry.leave_after(|| gone.journal.end()).await.unwrap();
    let before = map.forgotten.lock().1.len();
    flush.join(Asked::Everybody).await;
    flush.join(Asked::Everybody).await;
    let forgotten = map.forgotten.lock().clone();
    assert_eq!((map.head(7), forgotten.0), (Some(1), 0));
    assert!(forgotten.1.len() > before && forgotten.1.iter().all(|it| *it == log), "{forgotten:?}");
    let once = forgotten.1.len();
    flush.join(Asked::Everybody).await;
    assert_eq!(map.forgotten.lock().1.len(), once, "once");
}

#[tokio::test]
async fn of_a_killed_process_only_its_logs_are_forgotten() {
    let cluster = Cluster::new();
    let (flush, map) = cluster.reader(1).await;
    let [other, killed] = [cluster.writer(2).await, cluster.writer(3).await];
    let log = LogId::new([8; 16]);
    cluster.enter(&killed, log).await;
    other.wrote(7, 1);
    killed.wrote(8, 1);
    flush.join(Asked::Everybody).await;
    killed.hangs.store(true, Ordering::Relaxed);
    flush.join(Asked::Everybody).await;
    // Closed and finished by another one, which wrote what was missing.
    let dead = other.registry.close(killed.journal.incarnation()).await.unwrap();
    flush.join(Asked::Everybody).await;
    other.registry.drained(dead).await.unwrap();
    flush.join(Asked::Everybody).await;
    flush.join(Asked::Everybody).await;
    let forgotten = map.forgotten.lock().clone();
    assert_eq!((map.head(7), map.head(8), forgotten.0), (Some(1), None, 0));
    assert!(forgotten.1.iter().all(|it| *it == log), "{forgotten:?}");
}

/// A process that was stopped for long may miss the whole life of another one.
#[tokio::test]
async fn who_is_missing_from_the_registry_was_seen_to_its_end_or_nothing_is_known() {
    let cluster = Cluster::new();
    let (flush, map) = cluster.reader(1).await;
    let [staying, leaving] = [cluster.writer(2).await, cluster.writer(3).await];
    staying.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    leaving.registry.leave_after(|| leaving.journal.end()).await.unwrap();
    flush.join(Asked::Everybody).await;
    let finished = [leaving.journal.incarnation(), staying.journal.incarnation()];
    assert_eq!(staying.registry.prune(&finished).await.unwrap(), 1, "of two one is finished");
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().0), (Some(1), 0));
    // Between two rounds.
    let unseen = cluster.writer(4).await;
    unseen.registry.leave_after(|| unseen.journal.end()).await.unwrap();
    assert_eq!(staying.registry.prune(&[unseen.journal.incarnation()]).await.unwrap(), 1);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().0), (None, 1));
    flush.join(Asked::Everybody).await;
    assert_eq!(map.forgotten.lock().0, 1, "once");
}

#[tokio::test]
async fn when_a_process_that_tells_no_end_has_ended_what_it_had_open_is_not_known() {
    let cluster = Cluster::new();
    let writer = cluster.writer(2).await;
    let (flush, map) = cluster.reader(1).await;
    writer.wrote(7, 1);
    flush.join(Asked::Everybody).await;
    assert_eq!((map.head(7), map.forgotten.lock().0), (Some(1), 0));
    let log = LogId::new([7; 16]);
    cluster.enter(&writer, log).await;
    writer.registry.leave().await.unwrap();
    flush.join(Asked::Everybody).await;
    assert_eq!(*map.forgotten.lock(), (0, vec![log]));
    // Once.
    flush.join(Asked::Everybody).await;
    assert_eq!(map.forgotten.lock().1.len(), 1);
    // One that came and went between two rounds.
    let other = cluster.writer(3).await;
    cluster.enter(&other, log).await;
    other.registry.leave().await.unwrap();
    flush.join(Asked::Everybody).await;
    assert_eq!(*map.forgotten.lock(), (0, vec![log, log]));
}
