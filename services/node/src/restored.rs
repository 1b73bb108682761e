//! `polity schema restored`: takes a store into use that was put back from a backup.

use std::{sync::Arc, time::Duration};

use polity_accounts::Accounts;
use polity_bus::LocalBus;
use polity_client_api::OwedToRooms;
use polity_core::{Clock, IncarnationId, Random, SystemClock, SystemRandom};
use polity_log::{Recover, Restored, restore};
use polity_platform::{
    config::{Config, StoreKind},
    lifecycle::{Lifecycle, exit},
    telemetry,
};
use polity_store::life;

use crate::{command::say, failure::Failure, ground::Ground, rooms::Rooms, store, tier::Tier};

/// Its name among the processes that share the store.
const NAME: &str = "restored";
/// Users' records and inboxes that stay loaded.
const LOADED: usize = 1_000;
/// Where a partition was deleted a CQL store hides what is written for so long: the deletion bears a time a minute ahead, and clocks may
/// be another one apart.
const HIDDEN: Duration = Duration::from_secs(125);
/// How long the work takes that records of the copy owe, and then their logs' end.
const OWED: Duration = Duration::from_secs(600);
/// How long rooms' logs take to end.
const ENDS: Duration = Duration::from_secs(30);

/// See the module. Each step may be done again.
pub(crate) async fn restored(config: &Config) -> Result<(), Failure> {
    let _telemetry =
        telemetry::start(&config.log, &config.telemetry, NAME).map_err(|error| Failure::new(exit::USAGE, error))?;
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let lifecycle = Lifecycle::new(Duration::ZERO);
    let opened = store::open(config, &clock, &*random, &lifecycle).await?;
    let opened = opened.ok_or_else(|| Failure::software("the store isn't there"))?;
    if config.store.kind == StoreKind::Cql {
        let alive = polity_cluster::alive(&*opened).await.map_err(Failure::software)?;
        if !alive.is_empty() {
            return Err(Failure::new(exit::IN_USE, format!("processes run on this store: {}", alive.len())));
        }
    }
    // First of all: whatever becomes of the rest, nothing of the life before holds any more.
    life::begin(&*opened, IncarnationId::new(random.bytes())).await.map_err(Failure::software)?;
    let parts = (opened, Arc::new(LocalBus::new()) as _);
    let ground = Ground::over(parts, (Tier::All, config, NAME, ""), (clock, random), &lifecycle).await?;
    let ground = ground.ok_or_else(|| Failure::software("the store isn't there"))?;
    let rooms = Rooms::new(&ground);
    let (marks, random) = (Arc::clone(&ground.marks), Arc::clone(&ground.random));
    let accounts =
        Accounts::new(&ground.env(), marks, &ground.bus, random, false, LOADED).map_err(Failure::software)?;
    let mut uses: Vec<Arc<dyn Recover>> = accounts.uses().recover();
    uses.push(rooms.recover());
    let hidden = if config.store.kind == StoreKind::Cql { HIDDEN } else { Duration::ZERO };
    let Restored { runs, logs, buckets, unfinished } = restore(&ground.registry, &uses, hidden).await?;
    // What records of the copy owe: those of users who never come back nobody else might load again. What is left the next run finishes.
    let owed = OwedToRooms::new(Arc::clone(&ground.store), rooms.transport(), Arc::clone(&ground.random));
    let ended = accounts.drain(&owed, OWED).await && rooms.drain(ENDS).await;
    let left = ended && ground.registry.leave().await?;
    say(&format!(
        "finished: {logs} logs that {runs} processes had in use, {buckets} parts beyond the backup's end deleted"
    ));
    say("the store is in a new life: sync tokens and one-time keys of the one before are void");
    if unfinished > 0 {
        say(&format!("logs of {unfinished} more are damaged, and stay set aside: the log tells which"));
    }
    if left { Ok(()) } else { Err(Failure::software("something of this is left: run it again")) }
}
