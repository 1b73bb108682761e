//! Purges beside appends, and the lives that follow, from a seed: several processes of which some purge, two at once too, writes that
//! land late, also in a life that is over, owners that stop and go on in it, who die between any two steps.

use std::collections::{BTreeMap, BTreeSet};

use faulty::World;
use race::{PROCESSES, Process, WRITERS, What, begin, command, hanging, settle};

use super::*;

const SEEDS: u64 = 300;
const CLIENTS: u64 = 3;
const COMMANDS: u64 = 6;
const TURNS: u64 = 8;
const TENANT: TenantId = TenantId::new(1);

/// What happened, as those saw it who asked.
#[derive(Default)]
struct Seen {
    /// Counts what happens.
    now: AtomicU64,
    /// What was said in which log, and when it was asked for.
    said: Mutex<Vec<(String, LogKey, Seq, u64)>>,
    /// When the purge of a log was answered first.
    purged: Mutex<BTreeMap<LogKey, u64>>,
}

impl Seen {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }
}

fn live(processes: &[Arc<Process>]) -> Vec<Arc<Process>> {
    processes.iter().filter(|process| !process.is_killed()).cloned().collect()
}

/// Gives something to whatever log the name stands for, as far as that process knows.
async fn give(world: &World, processes: &[Arc<Process>], at: usize, what: &What) -> Option<(LogKey, Seq)> {
    let names = &processes[at].names;
    let key = names.find(TENANT, "log").await.ok()??;
    match command(world, processes, at, key, what).await {
        Ok(seq) => Some((key, seq)),
        Err(LogError::Sealed) => {
            names.sealed(key);
            None
        }
        Err(_) => None,
    }
}

async fn ask(world: &Arc<World>, processes: &[Arc<Process>], seen: &Arc<Seen>, what: What, tries: u64) -> bool {
    for _ in 0..tries {
        let live = live(processes);
        let at = usize::try_from(world.below(live.len() as u64)).unwrap();
        let began = seen.tick();
        let asked = polity_core::tasks::spawn({
            let (world, seen, what) = (Arc::clone(world), Arc::clone(seen), what.clone());
            async move {
                let Some((key, seq)) = give(&world, &live, at, &what).await else { return false };
                match what {
                    What::Say(text) => seen.said.lock().push((text, key, seq, began)),
                    // There was nothing yet.
                    What::Purge if seq == Seq::ZERO => {}
                    What::Purge => drop(seen.purged.lock().entry(key).or_insert_with(|| seen.tick())),
                }
                true
            }
        });
        let mut patience = 30 + world.below(400);
        while !asked.is_finished() && patience > 0 {
            patience -= 1;
            tokio::task::yield_now().await;
        }
        if asked.is_finished() && asked.await.unwrap_or(false) {
            return true;
        }
    }
    false
}

async fn chaos(world: &Arc<World>, processes: &[Arc<Process>], seen: &Arc<Seen>) {
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
            0 if one.view.mortal => one.view.killed.store(true, Ordering::Relaxed),
            1 if other.incarnation != one.incarnation => {
                let (one, other) = (Arc::clone(one), other.incarnation);
                polity_core::tasks::spawn(async move {
                    drop(recover(&one.registry, other, &[Arc::new(one.logs.clone())]).await);
                });
            }
            2 => one.logs.unload(0, 0),
            3..=5 => {
                // One, or two at once.
                let (world, processes, seen) = (Arc::clone(world), processes.to_vec(), Arc::clone(seen));
                let tries = 1 + world.below(2);
                polity_core::tasks::spawn(async move {
                    let purge = || ask(&world, &processes, &seen, What::Purge, tries);
                    match world.below(2) {
                        0 => drop(purge().await),
                        _ => drop(tokio::join!(purge(), purge())),
                    }
                });
            }
            _ => world.land_one(),
        }
    }
}

/// What stands in the log's first buckets.
fn stored(world: &World, key: LogKey) -> (Vec<Head>, Vec<LogRow>) {
    let buckets = [0, 1].map(|bucket| world.rows(&schema::LOG, read::partition(key, polity_core::Bucket::new(bucket))));
    let all = buckets.into_iter().flatten();
    let (heads, rows): (Vec<Row>, Vec<Row>) = all.partition(|row| row.guards.is_some());
    let heads = heads.iter().map(|row| Head::from_row(row).unwrap()).collect();
    (heads, rows.into_iter().filter_map(|row| LogRow::from_row(row).unwrap()).collect())
}

/// What must hold when nothing happens any more; how many lives are over.
async fn check(world: &World, processes: &[Arc<Process>], seen: &Seen, seed: u64) -> u16 {
    let names = &processes[processes.len() - 1].names;
    let named = names.look_up(TENANT, "log", Consistency::Serial).await.unwrap().unwrap();
    let current = named.key;
    let said = seen.said.lock().clone();
    let purged = seen.purged.lock().clone();
    let over = said.iter().map(|said| said.1).chain(purged.keys().copied()).chain(named.before);
    let over: BTreeSet<LogKey> = over.filter(|key| *key != current).collect();
    for key in over.into_iter().chain((current != key()).then(key)) {
        let (heads, rows) = stored(world, key);
        assert!(!heads.is_empty() && heads.iter().all(Head::is_purged), "seed {seed}: {key} has heads {heads:?}");
        assert!(rows.is_empty(), "seed {seed}: {key} has rows {rows:?}");
    }
    let (heads, rows) = stored(world, current);
    assert!(
        !heads.iter().any(|head| head.epoch.is_sealed()),
        "seed {seed}: the log that the name has is sealed: {current} {heads:?}"
    );
    let rows: BTreeMap<Seq, LogRow> = rows.into_iter().map(|row| (row.seq, row)).collect();
    for (text, key, seq, began) in &said {
        if let Some(purged) = purged.get(key) {
            assert!(began < purged, "seed {seed}: {text} was acknowledged in {key}, which was purged before");
        }
        if *key == current {
            let row = rows.get(seq).unwrap_or_else(|| panic!("seed {seed}: {text} at {seq} of {key} is lost"));
            assert_eq!(row.body, text.as_bytes(), "seed {seed}");
        }
    }
    current.life.get() - 1
}

async fn run(seed: u64, writers: Writers) -> u16 {
    let world = World::new(seed);
    begin(&world);
    let life = Row::new(Values::new(), Bytes::new()).guarded(1, 1).with_columns(vec![Some(key().log.into())]);
    world.put_row(&schema::LOG_NAMES, values_of![TENANT, "counter", "log"], life);
    let mut processes = Vec::new();
    for number in 1..=PROCESSES {
        processes.push(Arc::new(Process::start(&world, writers, number, number < PROCESSES).await));
    }
    world.faults.store(true, Ordering::Relaxed);
    let seen = Arc::new(Seen::default());
    let (clients, commands) = (1 + world.below(CLIENTS), 1 + world.below(COMMANDS));
    let all = (0..clients).map(|client| {
        let (world, processes, seen) = (&world, &processes, &seen);
        async move {
            for command in 0..commands {
                let what = What::Say(format!("{client}/{command}"));
                ask(world, processes, seen, what, 1 + world.below(3)).await;
            }
        }
    });
    tokio::join!(futures_util::future::join_all(all), chaos(&world, &processes, &seen));
    settle(&world, writers, &mut processes).await;
    check(&world, &processes, &seen, seed).await;
    // What comes after: the life that the name has now goes on, whatever came before it.
    let last = &processes[processes.len() - 1..];
    assert!(ask(&world, last, &seen, What::Say("more".into()), 100).await, "seed {seed}: nothing can be said");
    assert!(ask(&world, last, &seen, What::Purge, 100).await, "seed {seed}: nothing can be purged");
    assert!(ask(&world, last, &seen, What::Say("again".into()), 100).await, "seed {seed}: there is no next life");
    world.land_all();
    check(&world, &processes, &seen, seed).await
}

/// One seed, or many: `LIFE_SEEDS=17..18 cargo test -p polity-log lives`.
#[test]
fn no_life_takes_an_append_after_its_end_and_none_is_left_half_purged() {
    let asked = std::env::var("LIFE_SEEDS").ok();
    let (from, to) = asked.as_deref().and_then(|seeds| seeds.split_once("..")).unwrap_or(("0", ""));
    let seeds = from.parse().unwrap()..to.parse().unwrap_or(SEEDS);
    let (mut lives, mut count) = (0, 0);
    for (seed, writers) in seeds.flat_map(|seed| WRITERS.map(|writers| (seed, writers))) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut limit = std::pin::pin!(hanging(seed));
            let mut run = std::pin::pin!(run(seed, writers));
            if let futures_util::future::Either::Left((over, _)) =
                futures_util::future::select(&mut run, &mut limit).await
            {
                lives += u64::from(over);
            }
        });
        count += 1;
    }
    assert!(lives > 2 * count || asked.is_some(), "{lives} lives of {count} seeds: too few are over before the end");
}
