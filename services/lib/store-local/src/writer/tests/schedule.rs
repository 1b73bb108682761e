//! Several writers of the same logs at once, by seed, and power cuts between any two of their steps.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use polity_core::Random;
use polity_store::Bounds;

use super::*;

const WRITERS: u8 = 4;
const LOGS: u8 = 2;
const STEPS: u8 = 40;

/// What somebody was told.
#[derive(Clone)]
enum Told {
    /// A row of a log, that names a node.
    Appended {
        log: u8,
        seq: i64,
        node: Vec<u8>,
    },
    Receipt {
        user: String,
        seq: u64,
    },
}

/// Numbers by seed.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, buf: &mut [u8]) {
        let mut state = self.0.lock();
        for byte in buf {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    }
}

fn node(log: u8, hash: &[u8]) -> Values {
    values_of![TENANT, LogId::new([log; 16]), 0_i64, hash.to_vec()]
}

/// What a writer projects of a row, and that it has.
fn projected(log: u8, writer: u8, seq: i64) -> [Write; 2] {
    let kind = WriteKind::Projection(stamp(seq.unsigned_abs()));
    let mark = Row::new(Values::new(), Bytes::new()).with_columns(vec![Some(seq.into())]);
    let row = Write {
        table: &schema::REDACTIONS,
        partition: values_of![TENANT, LogId::new([log; 16]), i64::from(writer)],
        row: Row::new(values_of![seq], Bytes::new()),
        kind,
    };
    let partition = values_of![TENANT, LogId::new([100 + log * WRITERS + writer; 16])];
    [row, Write { table: &schema::PROJECTED, partition, row: mark, kind }]
}

async fn head(store: &dyn Store, number: u8) -> i64 {
    let key = values_of![schema::HEAD_ROW];
    let row = store.get(&schema::LOG, log(number), key, Consistency::Serial).await.unwrap();
    row.map_or(0, |row| row.guards.unwrap().0)
}

/// Appends, projects and writes receipts, some steps long.
async fn write(store: Arc<LocalStore>, writer: u8, seed: u64, told: Arc<Mutex<Vec<Told>>>) {
    let random: &dyn Random = &Seeded(Mutex::new(seed ^ (u64::from(writer) << 32)));
    for step in 0..STEPS {
        let number = u8::from(random.below(2) == 0);
        let known = head(&*store, number).await;
        let hash = vec![writer, step];
        let ahead = Write {
            table: &schema::STATE_NODES,
            partition: node(number, &hash),
            row: Row::new(Values::new(), Bytes::new()),
            kind: WriteKind::Plain { ttl_s: 0 },
        };
        store.put(vec![ahead], Durability::Ahead).await.unwrap();
        if append(&*store, log(number), known, hash.clone().into()).await.unwrap() == Cas::Applied {
            told.lock().push(Told::Appended { log: number, seq: known + 1, node: hash });
            for written in projected(number, writer, known + 1) {
                store.put(vec![written], Durability::Rebuildable).await.unwrap();
            }
        }
        let (user, seq) = (format!("@{}:x", random.below(3)), random.below(1000));
        if random.below(2) == 0 {
            store.put(vec![receipt(&user, seq)], Durability::Rebuildable).await.unwrap();
        } else {
            store.put(vec![receipt(&user, seq)], Durability::Acknowledged).await.unwrap();
            told.lock().push(Told::Receipt { user, seq });
        }
    }
}

/// Whether whatever was told is there, and nothing without what it rests on.
async fn check(told: &[Told], store: &dyn Store, seed: u64) {
    for told in told {
        match told {
            Told::Appended { log: number, seq, node: hash } => {
                let row = store.get(&schema::LOG, log(*number), values_of![*seq], Consistency::Serial).await.unwrap();
                assert_eq!(row.map(|row| row.value.to_vec()).as_ref(), Some(hash), "row {seq}, seed {seed}");
            }
            Told::Receipt { user, seq } => {
                assert!(receipt_of(store, user).await.is_some_and(|there| there >= *seq), "{user} {seq}, seed {seed}");
            }
        }
    }
    for number in 0..LOGS {
        let head = head(store, number).await;
        let rows = store.scan(&schema::LOG, log(number), Bounds::all(), 1000, Consistency::Serial).await.unwrap().rows;
        let rows: Vec<_> = rows.into_iter().filter(|row| row.guards.is_none()).collect();
        assert_eq!(rows.len() as u64, head.unsigned_abs(), "a row each, seed {seed}");
        for row in rows {
            let named = store.get(&schema::STATE_NODES, node(number, &row.value), Values::new(), Consistency::Serial);
            assert!(named.await.unwrap().is_some(), "a row without what it names, seed {seed}");
        }
        for writer in 0..WRITERS {
            let [row, mark] = projected(number, writer, 0);
            let mark = store.get(mark.table, mark.partition, mark.row.key, Consistency::Serial).await.unwrap();
            let Some(seq) = mark.and_then(|mark| mark.columns[0].as_ref()?.as_int()) else { continue };
            let covered = store.get(row.table, row.partition, values_of![seq], Consistency::Serial).await.unwrap();
            assert!(covered.is_some(), "a mark without its row, seed {seed}");
        }
    }
}

/// Cuts the power again and again until the writers have ended, and once more.
async fn cut(disk: Arc<Disk>, told: Arc<Mutex<Vec<Told>>>, ended: Arc<AtomicBool>, seed: u64) -> (usize, Vec<Told>) {
    let random: &dyn Random = &Seeded(Mutex::new(seed));
    let mut cuts = 0;
    loop {
        let last = ended.load(Ordering::Acquire);
        let told = told.lock().clone();
        let after = disk.cut(usize::try_from(random.below(3)).unwrap());
        check(&told, &*open(&after), seed).await;
        cuts += 1;
        if last {
            return (cuts, told);
        }
        tokio::time::sleep(Duration::from_micros(random.below(2000))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_power_cut_between_any_two_steps_takes_nothing_that_anybody_was_told() {
    let mut all_cuts = 0;
    for (seed, slow) in (0..30).zip([0, 50, 400].into_iter().cycle()) {
        let disk = Disk::slow(slow);
        let (store, told, ended) = (open(&disk), Arc::<Mutex<Vec<Told>>>::default(), Arc::new(AtomicBool::new(false)));
        let writers =
            (0..WRITERS).map(|writer| tasks::spawn(write(Arc::clone(&store), writer, seed, Arc::clone(&told))));
        let writers: Vec<_> = writers.collect();
        let cuts = tasks::spawn(cut(Arc::clone(&disk), Arc::clone(&told), Arc::clone(&ended), seed));
        for writer in writers {
            writer.await.unwrap();
        }
        ended.store(true, Ordering::Release);
        let (cuts, told) = cuts.await.unwrap();
        all_cuts += cuts;
        // Of two that append to one head one is refused, and nobody's row is another's.
        let appended = told.iter().filter(|told| matches!(told, Told::Appended { .. })).count();
        assert_eq!(appended as u64, (head(&*store, 0).await + head(&*store, 1).await).unsigned_abs(), "seed {seed}");
    }
    // On a busy machine some writers end before the power is cut for the second time.
    assert!(all_cuts > 60, "{all_cuts} cuts");
}
