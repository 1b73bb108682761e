//! A process that writes under load is killed at any moment, fifty times, on one store: nothing that it was told is missing, and no
//! conditional write is there in part.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use polity_core::{LogId, Random, Stamp, SystemClock, SystemRandom, TenantId};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Row, Store, Values, Write, WriteKind, schema,
    values_of,
};
use polity_store_local::{LocalStore, Options};

const FOLDER: &str = "POLITY_TEST_STORE";
const KILLS: usize = 50;
const WRITERS: u8 = 8;
/// Rows of one append.
const GROUP: i64 = 3;
const TENANT: TenantId = TenantId::new(1);

fn open(folder: &Path) -> Arc<LocalStore> {
    // Small buffers: files are sorted and merged while the process dies.
    let options = Options { write_buffer_bytes: 256 << 10, ..Options::default() };
    LocalStore::open(folder, &options, Arc::new(SystemClock::new()), &SystemRandom).unwrap()
}

fn log(writer: u8) -> Values {
    values_of![TENANT, LogId::new([writer; 16]), 0_i64]
}

async fn head(store: &dyn Store, writer: u8) -> Option<i64> {
    let key = values_of![schema::HEAD_ROW];
    let row = store.get(&schema::LOG, log(writer), key, Consistency::Serial).await.unwrap();
    row.map(|row| row.guards.unwrap().0)
}

async fn append(store: &dyn Store, writer: u8, known: Option<i64>) -> i64 {
    let last = known.unwrap_or(0) + GROUP;
    let rows = (last - GROUP + 1..=last).map(|seq| Row::new(values_of![seq], vec![writer; 700].into()));
    let head = Row::new(values_of![schema::HEAD_ROW], Bytes::new()).guarded(last, 1);
    let expect = known.map_or(Expect::Absent, |seq| Expect::Guards(seq, 1));
    let condition = Condition { row: head.key.clone(), expect };
    let changes = rows.chain([head]).map(Change::Put).collect();
    assert_eq!(store.cas(&schema::LOG, log(writer), condition, changes).await.unwrap(), Cas::Applied);
    last
}

fn projection(writer: u8, number: i64) -> Write {
    Write {
        table: &schema::REDACTIONS,
        partition: log(writer),
        row: Row::new(values_of![number], Bytes::new()),
        kind: WriteKind::Projection(Stamp::LOWEST),
    }
}

fn filter(writer: u8, number: i64) -> Write {
    Write {
        table: &schema::FILTERS,
        partition: values_of![TENANT, format!("{writer}")],
        row: Row::new(values_of![format!("{number:012}")], Bytes::new()),
        kind: WriteKind::Plain { ttl_s: 0 },
    }
}

/// Writes until it is killed: an append, its projection, a plain row; says what is acknowledged.
async fn write(store: Arc<LocalStore>, writer: u8) {
    let mut known = head(&*store, writer).await;
    // What the last life may have left to do: its rows say so.
    store
        .put(known.iter().map(|last| projection(writer, last / GROUP)).collect(), Durability::Rebuildable)
        .await
        .unwrap();
    loop {
        let last = append(&*store, writer, known).await;
        known = Some(last);
        say(&format!("log {writer} {last}"));
        store.put(vec![projection(writer, last / GROUP)], Durability::Rebuildable).await.unwrap();
        if last % 4 == 0 {
            store.put(vec![filter(writer, last)], Durability::Acknowledged).await.unwrap();
            say(&format!("filter {writer} {last}"));
        }
    }
}

fn say(line: &str) {
    // One write: a line is never torn between writers.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The process that dies.
#[test]
fn child() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&folder));
        let writers = (0..WRITERS).map(|writer| polity_core::tasks::spawn(write(Arc::clone(&store), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

/// Runs a child for a while; what it was told, by writer: its log's head and its filters.
fn run_and_kill(folder: &Path, after: Duration) -> (Vec<i64>, Vec<(u8, i64)>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let (mut heads, mut filters) = (vec![0; usize::from(WRITERS)], Vec::new());
        for line in out.lines().map_while(Result::ok) {
            let mut words = line.split(' ');
            let (kind, writer, number) = (words.next(), words.next(), words.next());
            let (Some(writer), Some(number)) = (writer.and_then(|w| w.parse::<u8>().ok()), number) else { continue };
            let Ok(number) = number.parse::<i64>() else { continue };
            match kind {
                Some("log") => heads[usize::from(writer)] = number,
                Some("filter") => filters.push((writer, number)),
                _ => {}
            }
        }
        (heads, filters)
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn numbers(store: &dyn Store, table: &'static polity_store::Table, partition: Values) -> Vec<i64> {
    let (mut found, mut bounds) = (Vec::new(), Bounds::all());
    loop {
        let page = store.scan(table, partition.clone(), bounds, 1000, Consistency::Quorum).await.unwrap();
        let last = page.rows.last().map(|row| row.key.clone());
        found.extend(page.rows.iter().filter_map(|row| row.key[0].as_int()));
        match last {
            Some(last) if page.more => bounds = Bounds { from: std::ops::Bound::Excluded(last), ..Bounds::all() },
            _ => return found,
        }
    }
}

async fn check(folder: &Path, heads: &[i64], filters: &[(u8, i64)]) -> i64 {
    let store = open(folder);
    let mut sum = 0;
    for writer in 0..WRITERS {
        let stands = head(&*store, writer).await.unwrap_or(0);
        assert!(stands >= heads[usize::from(writer)], "writer {writer}: told {heads:?}, found {stands}");
        assert_eq!(stands % GROUP, 0, "writer {writer}: half a group");
        let mut rows = numbers(&*store, &schema::LOG, log(writer)).await;
        if rows.last() == Some(&schema::HEAD_ROW) {
            rows.pop();
        }
        assert!(rows.into_iter().eq(1..=stands), "writer {writer}: rows are missing below {stands}");
        // Written one after the other, each after its rows and not synced: what a kill leaves out is the last one at most.
        let projected = numbers(&*store, &schema::REDACTIONS, log(writer)).await;
        assert!(projected.iter().copied().eq(1..=projected.len() as i64), "writer {writer}: a projection is missing");
        assert!(projected.len() as i64 >= stands / GROUP - 1, "writer {writer}: {} for {stands}", projected.len());
        sum += stands;
    }
    for (writer, number) in filters {
        let Write { table, partition, row, .. } = filter(*writer, *number);
        let found = store.get(table, partition, row.key, Consistency::Quorum).await.unwrap();
        assert!(found.is_some(), "writer {writer}: filter {number} is missing");
    }
    sum
}

#[tokio::test]
async fn killed_at_any_moment_nothing_acknowledged_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut heads, mut filters) = (vec![0; usize::from(WRITERS)], Vec::new());
    let (mut busy, mut rows) = (0, 0);
    for _ in 0..KILLS {
        let random: &dyn Random = &SystemRandom;
        let (told, more) = run_and_kill(&path, Duration::from_millis(5 + random.below(300)));
        busy += usize::from(told.iter().any(|head| *head > 0));
        for (head, told) in heads.iter_mut().zip(told) {
            *head = told.max(*head);
        }
        filters.extend(more);
        rows = check(&path, &heads, &filters).await;
    }
    assert!(busy > KILLS / 4, "{busy} of {KILLS} were killed while they wrote");
    println!("{rows} rows, {} filters; {busy} of {KILLS} were killed while they wrote", filters.len());
}
