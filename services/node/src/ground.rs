//! What every part of a process stands on.

use std::sync::Arc;

use polity_bus::Bus;
use polity_cluster::Member;
use polity_core::{Clock, IncarnationId, Random, SystemClock, SystemRandom};
use polity_log::{Env, Names, Registry};
use polity_platform::{config::Config, lifecycle::Lifecycle};
use polity_room_state::ROOM_LOG;
use polity_store::{Marks, Store};
use polity_sync::heads::HeadMap;

use crate::{bus, digests::Digests, failure::Failure, store, tenants::Tenants, tier::Tier, wait::until_there};

/// Logs in the head map.
const HEADS: usize = 200_000;

/// See the module.
pub(crate) struct Ground {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) tenants: Arc<Tenants>,
    /// This process, as others see it.
    pub(crate) this: Member,
    pub(crate) registry: Arc<Registry>,
    pub(crate) names: Arc<Names>,
    /// How far logs have come, for who reads them here.
    pub(crate) heads: Arc<HeadMap>,
    /// What it tells others of its writes.
    pub(crate) digests: Digests,
}

// === impl Ground ===

impl Ground {
    /// Opens store and bus, and joins the processes that share them. Waits for what isn't there; nothing when the process is to end
    /// meanwhile. `address` is where other processes find this one.
    pub(crate) async fn lay(
        tier: Tier,
        config: &Config,
        address: &str,
        life: &Lifecycle,
    ) -> Result<Option<Self>, Failure> {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let Some(opened) = store::open(config, &clock, &*random, life).await? else { return Ok(None) };
        let name = tier.node_name(config);
        let Some(bus) = bus::open(config, &name, life).await? else { return Ok(None) };
        Self::over((opened, bus), (tier, config, &name, address), (clock, random), life).await
    }

    /// Joins the processes that share a store and a bus.
    pub(crate) async fn over(
        (opened, bus): (Arc<dyn Store>, Arc<dyn Bus>),
        (tier, config, name, address): (Tier, &Config, &str, &str),
        (clock, random): (Arc<dyn Clock>, Arc<dyn Random>),
        life: &Lifecycle,
    ) -> Result<Option<Self>, Failure> {
        let join = || async {
            let tenants = Tenants::load(config, &*opened, &*random).await?;
            // A run of its own for each attempt: of one that failed it isn't known whether it stands in the registry.
            let this = Member::new(IncarnationId::new(random.bytes()), tier.kind(), name, address);
            let registry = Registry::join(Arc::clone(&opened), &this).await?;
            Ok((tenants, this, registry))
        };
        let Some((tenants, this, registry)) = until_there("the store", &life.stop(), join).await? else {
            return Ok(None);
        };
        let digests = Digests::new(this.incarnation, !address.is_empty());
        let (store, marks) = digests.marked(opened);
        let names = Arc::new(Names::new(Arc::clone(&store), Arc::clone(&random), ROOM_LOG));
        let (tenants, heads) = (Arc::new(tenants), Arc::new(HeadMap::new(HEADS, address.is_empty())));
        Ok(Some(Self { clock, random, store, marks, bus, tenants, this, registry, names, heads, digests }))
    }

    /// What logs stand on.
    pub(crate) fn env(&self) -> Env {
        Env {
            store: Arc::clone(&self.store),
            registry: Arc::clone(&self.registry),
            moved: self.digests.moved(&self.heads),
            clock: Arc::clone(&self.clock),
            shared: self.is_shared(),
        }
    }

    /// Whether other processes may stand on the same store: then they can call this one.
    pub(crate) fn is_shared(&self) -> bool {
        !self.this.address.is_empty()
    }
}
