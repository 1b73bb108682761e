//! Several processes on one log, from a seed: writes that land late or never, processes that stop, die, are closed though they
//! live, are recovered by two at once; clients that retry. Each seed must keep every promise of the log.

use std::collections::{BTreeMap, BTreeSet};

use faulty::{View, World};
use polity_store::values_of;

use super::*;

const OPEN: i64 = 0;
const DRAINED: i64 = 2;
const SEEDS: u64 = 600;
pub(super) const WRITERS: [Writers; 3] = [Writers::Alone, Writers::Any, Writers::One];
pub(super) const PROCESSES: u8 = 3;
/// At most so many clients and commands of each: with few of them what goes wrong last is not mended by what follows.
const CLIENTS: u64 = 4;
const COMMANDS: u64 = 3;
/// Steps after which a seed counts as hanging.
const PATIENCE: u64 = 300_000;
/// The use of the logs' names.
const NAME: &str = "counter";
/// Turns that chaos takes.
const TURNS: u64 = 10;

pub(super) struct Process {
    pub(super) registry: Arc<Registry>,
    pub(super) logs: Logs<Counter>,
    pub(super) names: Arc<Names>,
    pub(super) view: Arc<View>,
    pub(super) incarnation: IncarnationId,
}

/// What a process is asked for.
#[derive(Clone)]
pub(super) enum What {
    Say(String),
    Purge,
}

/// What clients were told, by text.
type Told = Arc<Mutex<BTreeMap<String, Seq>>>;

impl Process {
    pub(super) async fn start(world: &Arc<World>, writers: Writers, number: u8, mortal: bool) -> Self {
        let incarnation = IncarnationId::new([number; 16]);
        let view = world.view(mortal);
        let store: Arc<dyn Store> = Arc::clone(&view) as _;
        let registry = loop {
            if let Ok(registry) = Registry::join(Arc::clone(&store), &Member::new(incarnation, "test", "n", "")).await {
                break registry;
            }
        };
        let clock = Arc::new(ManualClock::new(0));
        let shared = writers != Writers::Alone;
        let random = Arc::new(faulty::Seeded::new(number.into()));
        let names = Arc::new(Names::new(Arc::clone(&store), random, NAME));
        let env = Env { store, registry: Arc::clone(&registry), moved: Arc::new(Deaf), clock, shared };
        let lives = Arc::clone(&names);
        let make = move || Counter { names: Some(Arc::clone(&lives)), ..Counter::default() };
        let logs = match writers {
            Writers::One => Logs::owned(env, "counter", 100, make),
            _ => Logs::new(env, "counter", 100, make),
        };
        Self { logs, registry, names, view, incarnation }
    }

    async fn give(&self, key: LogKey, what: &What, asked: Asked) -> Result<Seq, LogError> {
        match what {
            What::Say(text) => self.logs.submit_as(key, say(text), asked).await?,
            What::Purge => self.logs.purge(key, asked).await.map(|any| Seq::new(any.into())),
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.view.killed.load(Ordering::Relaxed)
    }

    async fn recover(&self, dead: IncarnationId) -> Result<usize, LogError> {
        recover(&self.registry, dead, &[Arc::new(self.logs.clone())]).await
    }
}

/// A log that is about to fill its bucket, or an empty one.
pub(super) fn begin(world: &World) -> u64 {
    let start = match world.below(3) {
        0 => 0,
        1 => 1023,
        _ => 1015 + world.below(8),
    };
    if start > 0 {
        let writer = IncarnationId::new([200; 16]);
        let head = Head {
            seq: Seq::new(start),
            epoch: polity_core::Epoch::new(5),
            first: Seq::new(start),
            writer,
            state: Bytes::copy_from_slice(&start.to_be_bytes()),
        };
        let partition = read::partition(key(), Seq::new(start).bucket());
        let row = NewRow { kind: 1, body: "begin".into(), ..NewRow::default() }.at(Seq::new(start));
        world.put_row(&schema::LOG, partition.clone(), row.to_row());
        world.put_row(&schema::LOG, partition, head.to_row());
    }
    start
}

/// Gives a command to a process, which hands it on to the one that has the log, or takes the log from it.
pub(super) async fn command(
    world: &World,
    processes: &[Arc<Process>],
    at: usize,
    key: LogKey,
    what: &What,
) -> Result<Seq, LogError> {
    let mut claim = None;
    let mut outcome = Err(LogError::Ended);
    for _ in 0..4 {
        outcome = processes[at].give(key, what, Asked { forwarded: false, claim }).await;
        let Err(LogError::Elsewhere(from)) = outcome else { break };
        let writer = processes.iter().find(|process| process.incarnation == from);
        let writer = writer.filter(|writer| !writer.is_killed() && world.below(4) > 0);
        let Some(writer) = writer else {
            claim = Some(Claim { from, why: Why::Silent });
            continue;
        };
        outcome = writer.give(key, what, Asked { forwarded: true, claim: None }).await;
        let Err(LogError::NotHeld) = outcome else { break };
        claim = Some(Claim { from, why: Why::NotHeld });
    }
    outcome
}

/// Asks one process after the other until one has done it.
async fn ask(world: &Arc<World>, processes: &[Arc<Process>], told: &Told, text: &str, tries: u64) {
    for _ in 0..tries {
        let live: Vec<&Arc<Process>> = processes.iter().filter(|process| !process.is_killed()).collect();
        let at = usize::try_from(world.below(live.len() as u64)).unwrap();
        let submitted = polity_core::tasks::spawn({
            let (live, world, text) =
                (live.into_iter().cloned().collect::<Vec<_>>(), Arc::clone(world), text.to_owned());
            async move { command(&world, &live, at, key(), &What::Say(text)).await }
        });
        // A client gives up, and tries elsewhere while its first request is still being worked on.
        let mut patience = 30 + world.below(300);
        while !submitted.is_finished() && patience > 0 {
            patience -= 1;
            tokio::task::yield_now().await;
        }
        if submitted.is_finished()
            && let Ok(Ok(seq)) = submitted.await
        {
            let before = told.lock().insert(text.to_owned(), seq);
            assert!(before.is_none_or(|before| before == seq), "{text} was told {before:?} and {seq}");
            return;
        }
    }
}

/// Kills, closes, recovers, unloads, trims.
async fn chaos(world: &Arc<World>, processes: &[Arc<Process>], told: &Told, trimmed: &AtomicU64) {
    for _ in 0..TURNS {
        for _ in 0..world.below(60) {
            tokio::task::yield_now().await;
        }
        let any = || &processes[usize::try_from(world.below(processes.len() as u64)).unwrap()];
        let (one, other) = (any(), any());
        if one.is_killed() {
            continue;
        }
        match world.below(10) {
            // The last process always lives.
            0 if one.view.mortal => {
                one.view.killed.store(true, Ordering::Relaxed);
            }
            1 | 2 if other.incarnation != one.incarnation => {
                // Dead or not.
                let (one, other) = (Arc::clone(one), other.incarnation);
                polity_core::tasks::spawn(async move { drop(one.recover(other).await) });
            }
            3 => {
                let logs = one.logs.clone();
                polity_core::tasks::spawn(async move { drop(logs.recover(key()).await) });
            }
            4 | 5 => one.logs.unload(0, 0),
            6 => {
                let up_to = told.lock().values().max().map_or(0, |seq| seq.get()).saturating_sub(world.below(3));
                trimmed.fetch_max(up_to, Ordering::Relaxed);
                let command = Say { text: "trim".into(), dedup: None, trim: Some(Seq::new(up_to)) };
                let logs = one.logs.clone();
                polity_core::tasks::spawn(async move { drop(logs.submit(key(), command).await) });
            }
            _ => world.land_one(),
        }
    }
}

/// Everything goes on until nothing is left to do, although no command comes any more. A new process finishes the dead.
pub(super) async fn settle(world: &Arc<World>, writers: Writers, processes: &mut Vec<Arc<Process>>) {
    world.faults.store(false, Ordering::Relaxed);
    let new = Arc::new(Process::start(world, writers, PROCESSES + 1, false).await);
    for process in &*processes {
        // Who learns that it was closed ends itself.
        if process.is_killed() || state(world, process) != OPEN {
            process.view.killed.store(true, Ordering::Relaxed);
            if state(world, process) != DRAINED {
                let live = |other: &&Arc<Process>| !other.is_killed() && state(world, other) == OPEN;
                let by = processes.iter().rev().find(live).filter(|_| world.below(2) == 0).unwrap_or(&new);
                if by.recover(process.incarnation).await.is_err() {
                    // It was closed meanwhile.
                    new.recover(process.incarnation).await.unwrap();
                }
            }
        }
    }
    processes.push(new);
    for _ in 0..20_000 {
        let mut left = processes.iter().filter(|process| !process.is_killed() && process.logs.loaded() > 0).peekable();
        if left.peek().is_none() {
            break;
        }
        left.for_each(|process| process.logs.unload(0, 0));
        tokio::task::yield_now().await;
    }
    let loaded = |process: &Arc<Process>| !process.is_killed() && process.logs.loaded() > 0;
    assert!(!processes.iter().any(loaded), "a log can't be unloaded");
    world.land_all();
}

fn state(world: &World, process: &Process) -> i64 {
    let members = world.rows(&schema::MEMBERS, values_of!["polity"]);
    let own = members.iter().find(|row| row.key[0].as_blob().is_some_and(|id| **id == *process.incarnation.as_bytes()));
    own.and_then(|row| row.guards).map_or(-1, |(state, _)| state)
}

/// The log's rows, by number, with the promises that hold whoever asks.
fn rows(world: &World, seed: u64, start: u64, trimmed: u64) -> BTreeMap<Seq, LogRow> {
    let buckets =
        [0, 1].map(|bucket| world.rows(&schema::LOG, read::partition(key(), polity_core::Bucket::new(bucket))));
    let heads = buckets.iter().flatten().filter(|row| row.guards.is_some()).map(|row| Head::from_row(row).unwrap());
    let head =
        heads.max_by_key(|head| (head.seq, head.epoch)).map_or((start, 1), |head| (head.seq.get(), head.first.get()));
    let rows: BTreeMap<Seq, LogRow> = buckets
        .into_iter()
        .flatten()
        .filter_map(|row| LogRow::from_row(row).unwrap())
        .map(|row| (row.seq, row))
        .collect();
    let there: Vec<u64> = rows.keys().map(|seq| seq.get()).filter(|seq| *seq >= head.1).collect();
    assert_eq!(there, (head.1..=head.0).collect::<Vec<_>>(), "seed {seed}: dense up to the head");
    assert!(head.1 <= start.max(trimmed) + 1, "seed {seed}: only what was to be trimmed is gone");
    let texts: Vec<&Bytes> = rows.values().map(|row| &row.body).collect();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "seed {seed}: a transaction gives one row");
    rows
}

async fn run(seed: u64, writers: Writers) {
    let world = World::new(seed);
    let start = begin(&world);
    let mut processes = Vec::new();
    for number in 1..=PROCESSES {
        processes.push(Arc::new(Process::start(&world, writers, number, number < PROCESSES).await));
    }
    world.faults.store(true, Ordering::Relaxed);
    let (told, trimmed): (Told, _) = (Told::default(), AtomicU64::new(0));
    let (clients, commands) = (1 + world.below(CLIENTS), 1 + world.below(COMMANDS));
    let all = (0..clients).map(|client| {
        let (world, processes, told) = (&world, &processes, &told);
        async move {
            for command in 0..commands {
                ask(world, processes, told, &format!("{client}/{command}"), 1 + world.below(3)).await;
            }
        }
    });
    tokio::join!(futures_util::future::join_all(all), chaos(&world, &processes, &told, &trimmed));
    settle(&world, writers, &mut processes).await;
    let trimmed = trimmed.into_inner();
    for (seq, row) in rows(&world, seed, start, trimmed) {
        let Some((device, txn)) = row.device.as_deref().zip(row.txn.as_deref()) else { continue };
        let partition = values_of![key().tenant, key().log, device, txn];
        let projected = world.rows(&schema::TRANSACTIONS, partition);
        let at = projected.first().and_then(|row| row.columns[1].clone()).and_then(|seq| seq.as_int());
        assert_eq!(at, Some(seq.to_i64()), "seed {seed}: {txn} is projected although nothing happens any more");
    }
    // Now every client gets its answer.
    for (client, command) in (0..clients).flat_map(|client| (0..commands).map(move |command| (client, command))) {
        ask(&world, &processes[processes.len() - 1..], &told, &format!("{client}/{command}"), 100).await;
    }
    let rows = rows(&world, seed, start, trimmed);
    let told = told.lock();
    assert_eq!(told.len() as u64, clients * commands, "seed {seed}: everybody was answered");
    for (text, seq) in &*told {
        if let Some(row) = rows.get(seq) {
            assert_eq!(row.body, text.as_bytes(), "seed {seed}: an acknowledged row is there");
        } else {
            assert!(seq.get() <= trimmed, "seed {seed}: {text} at {seq} is lost");
        }
    }
    assert_eq!(told.values().collect::<BTreeSet<_>>().len(), told.len(), "seed {seed}: one row for each");
}

/// Panics in the end.
pub(super) async fn hanging(seed: u64) {
    for _ in 0..PATIENCE {
        tokio::task::yield_now().await;
    }
    panic!("seed {seed} doesn't come to an end");
}

/// One seed, or many: `RACE_SEEDS=17..18 cargo test -p polity-log race`.
#[test]
fn whatever_happens_no_row_is_lost_or_twice_or_left_behind() {
    let asked = std::env::var("RACE_SEEDS").ok();
    let (from, to) = asked.as_deref().and_then(|seeds| seeds.split_once("..")).unwrap_or(("0", ""));
    let seeds = from.parse().unwrap()..to.parse().unwrap_or(SEEDS);
    for (seed, writers) in seeds.flat_map(|seed| WRITERS.map(|writers| (seed, writers))) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut limit = std::pin::pin!(hanging(seed));
            let mut seed = std::pin::pin!(run(seed, writers));
            futures_util::future::select(&mut seed, &mut limit).await;
        });
    }
}
