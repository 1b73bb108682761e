//! A backup of a store in use, made table by table as operators are told to (`deploy/README.md`), and putting it back.

use std::{error::Error, panic, sync::Arc, time::Duration};

use polity_accounts::Accounts;
use polity_client_api::OwedToRooms;
use polity_core::{IncarnationId, SystemClock, tasks};
use polity_log::{Moved, Recover, restore};
use polity_room_state::{Deps, Service};
use polity_store::{Table, life, schema};
use polity_store_local::LocalStore;

use super::{chance::Chance, cluster::Cluster, ground::Ground, instance::TENANTS, nap, scenario::Fault};
use crate::{load::Journal, parts};

/// In this order, so that no projection is ahead of its log, and each log that moved meanwhile stands in the registry: see `polity_log::restore`.
/// What stands on one line is copied at once.
const ORDER: [&[&Table]; 8] = [
    &[&schema::PROJECTED],
    &[
        &schema::TRANSACTIONS,
        &schema::EVENTS,
        &schema::MEMBERSHIPS,
        &schema::FORGOTTEN,
        &schema::USER_RECORD,
        &schema::OWN_RECEIPTS,
        &schema::RECEIPTS,
        &schema::REDACTIONS,
        &schema::PUBLIC_ROOMS,
        &schema::ALIASES,
    ],
    &[&schema::LOG],
    &[&schema::ACTIVE],
    &[&schema::MEMBERS],
    &[&schema::ONE_TIME_KEYS, &schema::META, &schema::USED_ONCE, &schema::TENANTS],
    &[&schema::STATE_NODES, &schema::SYNC_SNAPSHOTS, &schema::FILTERS, &schema::ROOM_ALIASES, &schema::BEATS],
    &[&schema::LOG_NAMES],
];
/// Between two parts of it pass so many milliseconds at most.
const APART_MS: u64 = 250;
/// Parts of the log, which aren't copied at once either.
const PARTS: u8 = 4;
/// In the log's keys the number of the row stands behind the partition.
const ROW: usize = 8;
/// What is written where a partition was deleted isn't seen for so long.
const HIDDEN: Duration = Duration::from_secs(61);

/// A copy of a store that is in use meanwhile.
pub(super) async fn backup(store: &LocalStore, chance: &Chance) -> Arc<LocalStore> {
    let copy = LocalStore::memory(Arc::new(SystemClock::new()), chance).expect("a store in memory");
    for tables in ORDER {
        for table in tables {
            let parts = if table.number == schema::LOG.number { PARTS } else { 1 };
            for part in 0..parts {
                let which = |key: &[u8]| parts == 1 || part_of(key) == part;
                copy.take_over(store, table, which).expect("stores in memory");
                nap(if parts > 1 { chance.between(0, APART_MS) } else { 0 }).await;
            }
        }
        nap(chance.between(0, APART_MS)).await;
    }
    copy.copy().expect("it is in memory")
}

fn part_of(key: &[u8]) -> u8 {
    blake3::hash(&key[..key.len() - ROW]).as_bytes()[0] % PARTS
}

/// The store may fail in the first runs of what puts the copy back.
const IN_TROUBLE: u64 = 4;

/// What `polity schema restored` does, on the store of a cluster in which nothing runs. It may be killed, or fail with the store, and is
/// begun again then.
pub(super) async fn put_back(cluster: &Arc<Cluster>, (chance, journal): (&Chance, &Journal)) {
    let trouble = Chance::of(chance.below(u64::MAX), "trouble");
    for run in 0.. {
        let (process, ground) = cluster.aside(run).await;
        if run == IN_TROUBLE {
            // What the last of them wrote may be late, and change what this one has read.
            cluster.weather.all_have_come().await;
        }
        if run < 2 && chance.one_in(2) {
            process.kill_after(chance.below(400));
        }
        let fault = trouble.pick(&TROUBLE).filter(|_| run < IN_TROUBLE && trouble.one_in(3));
        if let Some(fault) = fault {
            journal.note("restore", format!("run {run}: {fault:?}"));
            cluster.weather.begin(fault.clone());
            cluster.weather.count("restores in trouble");
        }
        let done = tasks::spawn_in(&process.owner(), take_into_use(ground)).await;
        if let Some(fault) = fault {
            cluster.weather.end(fault);
        }
        match done {
            Ok(Ok(())) => return process.kill(),
            Ok(Err(error)) => {
                journal.note("restore", format!("run {run} ends: {error}"));
                journal.check(run < IN_TROUBLE, "it isn't put back though nothing goes wrong any more", &[]);
                process.kill();
            }
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
        nap(10).await;
    }
}

/// See there. A write that is torn would have to be known on to the store that is opened next.
const TROUBLE: [Fault; 5] = [
    Fault::StoreRefuses(5),
    Fault::StoreRefuses(60),
    Fault::StoreUnanswered(20),
    Fault::StoreLate(20),
    Fault::StoreSlow(60),
];

/// How long the work takes that records owe, and how long rooms take to end.
const OWED: Duration = Duration::from_secs(60);
const ENDS: Duration = Duration::from_secs(5);

async fn take_into_use(ground: Ground) -> Result<(), Box<dyn Error + Send + Sync>> {
    life::begin(&*ground.store, IncarnationId::new(ground.random.bytes())).await?;
    let deps = Deps::new(
        Arc::clone(&ground.store),
        Arc::clone(&ground.bus),
        Arc::clone(&ground.clock),
        Arc::clone(&ground.random),
        parts::signers(&TENANTS),
        Arc::clone(&ground.names),
        ground.caches.read,
    );
    let env = || ground.env(Arc::clone(&ground.journal) as Arc<dyn Moved>);
    let rooms = Service::new(deps, env(), 100);
    let (marks, random) = (Arc::clone(&ground.marks), Arc::clone(&ground.random));
    let accounts = Accounts::new(&env(), marks, &ground.bus, random, true, 100).expect("cheap passwords");
    let mut uses: Vec<Arc<dyn Recover>> = accounts.uses().recover();
    uses.push(rooms.recover());
    restore(&ground.registry, &uses, HIDDEN).await?;
    let owed = OwedToRooms::new(Arc::clone(&ground.store), rooms.transport(), Arc::clone(&ground.random));
    let ended = accounts.drain(&owed, OWED).await && rooms.drain(ENDS).await;
    if ended && ground.registry.leave().await? { Ok(()) } else { Err("something of it is left".into()) }
}
