//! Turns and the thread, on a disk that can be looked at as a power cut would leave it.

mod disk;
mod schedule;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use polity_core::{Life, LogId, Position, Seq, Stamp, SystemClock, SystemRandom, TenantId, tasks};
use polity_store::{
    Cas, Change, Condition, Consistency, Durability, Expect, Row, Store, StoreError, Values, Write, WriteKind, schema,
    values_of,
};
use tokio::sync::oneshot;

use self::disk::{Disk, Fault};
use super::Writer;
use crate::{
    LocalStore,
    request::{PlainWrite, Request},
};

const TENANT: TenantId = TenantId::new(1);
const LIMIT: Duration = Duration::from_secs(10);

fn open(disk: &Arc<Disk>) -> Arc<LocalStore> {
    LocalStore::new(Arc::clone(disk) as _, Arc::new(SystemClock::new()), &SystemRandom).unwrap().unwrap()
}

fn log(number: u8) -> Values {
    values_of![TENANT, LogId::new([number; 16]), 0_i64]
}

fn stamp(seq: u64) -> Stamp {
    Stamp::new(Position::new(Life::new(1).unwrap(), Seq::new(seq)), 1)
}

/// A receipt of a user at a place in a room.
fn receipt(user: &str, seq: u64) -> Write {
    Write {
        table: &schema::OWN_RECEIPTS,
        partition: values_of![TENANT, user],
        row: Row::new(values_of!["!r:x", "", "m.read"], seq.to_be_bytes().to_vec().into()),
        kind: WriteKind::Projection(stamp(seq)),
    }
}

async fn receipt_of(store: &dyn Store, user: &str) -> Option<u64> {
    let key = values_of!["!r:x", "", "m.read"];
    let row = store.get(&schema::OWN_RECEIPTS, values_of![TENANT, user], key, Consistency::Serial).await.unwrap()?;
    Some(u64::from_be_bytes(row.value[..].try_into().unwrap()))
}

async fn append(store: &dyn Store, log: Values, last: i64, value: Bytes) -> Result<Cas, StoreError> {
    let head = Row::new(values_of![schema::HEAD_ROW], Bytes::new()).guarded(last + 1, 1);
    let expect = if last == 0 { Expect::Absent } else { Expect::Guards(last, 1) };
    let condition = Condition { row: head.key.clone(), expect };
    let row = Row::new(values_of![last + 1], value);
    store.cas(&schema::LOG, log, condition, vec![Change::Put(row), Change::Put(head)]).await
}

fn key(number: usize) -> PlainWrite {
    let key = format!("{number:08}").into_bytes();
    PlainWrite { table: &schema::FILTERS, key, stamp: None, record: Some(Bytes::from_static(b"x")) }
}

fn put(number: usize) -> (Request, oneshot::Receiver<Result<(), StoreError>>) {
    let (reply, answer) = oneshot::channel();
    (Request::Put { writes: vec![key(number)], durability: Durability::Acknowledged, reply: Some(reply) }, answer)
}

async fn within<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, waited).await.expect("it ends")
}

#[tokio::test]
async fn what_loses_to_an_unsynced_row_is_acknowledged_once_that_is_on_disk() {
    let disk = Disk::new();
    let store = open(&disk);
    store.put(vec![receipt("@a:x", 7)], Durability::Rebuildable).await.unwrap();
    store.put(vec![receipt("@a:x", 5)], Durability::Acknowledged).await.unwrap();
    let after = open(&disk.cut(0));
    assert_eq!(receipt_of(&*after, "@a:x").await, Some(7));
    // Once is enough: what is on disk needs no other sync.
    let writes = disk.writes();
    store.put(vec![receipt("@a:x", 5)], Durability::Acknowledged).await.unwrap();
    assert_eq!(disk.writes(), writes);
}

#[tokio::test]
async fn what_needs_no_sync_is_written_by_its_caller_unless_the_engine_would_make_it_wait() {
    let disk = Disk::new();
    let store = open(&disk);
    let here = std::thread::current().id();
    store.put(vec![receipt("@a:x", 1)], Durability::Rebuildable).await.unwrap();
    assert_eq!(disk.last_writer(), Some(here));
    disk.be_busy();
    store.put(vec![receipt("@a:x", 2)], Durability::Rebuildable).await.unwrap();
    assert_ne!(disk.last_writer(), Some(here), "a thread of the runtime would have slept");
    assert_eq!(receipt_of(&*store, "@a:x").await, Some(2));
}

#[tokio::test]
async fn a_turn_that_panics_is_the_last_one() {
    for durability in [Durability::Rebuildable, Durability::Acknowledged] {
        let disk = Disk::new();
        let store = open(&disk);
        assert_eq!(append(&*store, log(1), 0, Bytes::new()).await.unwrap(), Cas::Applied);
        disk.fault_at(disk.writes(), Fault::Panic);
        // In the caller's turn, or in the thread's.
        let broken = Arc::clone(&store);
        let outcome = tasks::spawn(async move { broken.put(vec![receipt("@a:x", 1)], durability).await }).await;
        assert!(outcome.is_err() || outcome.is_ok_and(|outcome| outcome.is_err()));
        assert_eq!(within(store.failed()).await, "the store is unavailable: a write was broken off");
        let writes = disk.writes();
        assert!(store.put(vec![receipt("@b:x", 1)], Durability::Rebuildable).await.is_err());
        assert!(within(store.put(vec![receipt("@b:x", 1)], Durability::Acknowledged)).await.is_err());
        assert!(within(append(&*store, log(1), 1, Bytes::new())).await.is_err());
        assert_eq!(disk.writes(), writes, "{durability:?}");
    }
}

#[tokio::test]
async fn once_the_disk_is_full_nothing_is_written_whoever_noticed() {
    for durability in [Durability::Rebuildable, Durability::Acknowledged] {
        let disk = Disk::new();
        let store = open(&disk);
        disk.fault_at(disk.writes(), Fault::Full);
        assert!(store.put(vec![receipt("@a:x", 1)], durability).await.is_err());
        // There is room again, but somebody may rest on what is missing.
        assert!(store.put(vec![receipt("@a:x", 2)], Durability::Rebuildable).await.is_err());
        assert!(within(append(&*store, log(1), 0, Bytes::new())).await.is_err());
        assert!(within(store.failed()).await.contains("no space"), "{durability:?}");
        assert_eq!(receipt_of(&*open(&disk.cut(usize::MAX)), "@a:x").await, None);
    }
}

#[tokio::test]
async fn at_the_end_whatever_waits_is_written_and_answered() {
    let disk = Disk::new();
    let writer = Writer::start(Arc::clone(&disk) as _).unwrap();
    let gate = disk.close_gate();
    let (requests, answers): (Vec<_>, Vec<_>) = (0..1000).map(put).unzip();
    for (number, request) in requests.into_iter().enumerate() {
        writer.submit_ahead(vec![key(10_000 + number)]).unwrap();
        writer.submit(request).unwrap();
    }
    writer.submit_ahead(vec![key(20_000)]).unwrap();
    let ended = std::thread::spawn(move || drop(writer));
    drop(gate);
    for answer in answers {
        within(answer).await.expect("an answer").unwrap();
    }
    ended.join().unwrap();
    assert_eq!(disk.keys(), 2001);
}

#[tokio::test]
async fn what_is_refused_is_not_written_and_what_was_taken_is() {
    let disk = Disk::new();
    let writer = Writer::start(Arc::clone(&disk) as _).unwrap();
    let gate = disk.close_gate();
    let (mut taken, mut answers) = (0, Vec::new());
    for number in 0.. {
        assert!(number < 20_000, "what waits is bounded");
        if number % 3 == 0 {
            taken += usize::from(writer.submit_ahead(vec![key(100_000 + number)]).is_ok());
        }
        let (request, answer) = put(number);
        if writer.submit(request).is_err() {
            break;
        }
        taken += 1;
        answers.push(answer);
    }
    assert!(writer.put_now(vec![key(200_000)]).is_err(), "somebody else writes");
    drop(gate);
    for answer in answers {
        within(answer).await.expect("an answer").unwrap();
    }
    drop(writer);
    assert_eq!(disk.keys(), taken);
}

#[test]
fn what_waits_for_the_next_write_does_not_wait_for_ever_if_there_are_many() {
    let disk = Disk::new();
    let writer = Writer::start(Arc::clone(&disk) as _).unwrap();
    (0..63).for_each(|number| writer.submit_ahead(vec![key(number)]).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(disk.keys(), 0);
    writer.submit_ahead(vec![key(63)]).unwrap();
    let until = std::time::Instant::now() + LIMIT;
    while disk.keys() < 64 {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    // Nobody waits: whoever comes has a turn at once.
    while writer.put_now(vec![key(64)]).is_err() {
        assert!(std::time::Instant::now() < until);
    }
}
