//! What rooms stand on.

use std::sync::Arc;

use polity_bus::Bus;
use polity_core::{Clock, Random, TenantId};
use polity_log::Names;
use polity_room_engine::build::SigningIdentity;
use polity_store::Store;

use crate::nodes::NodeCache;

/// A tenant, as far as rooms need to know it.
pub trait Tenant: Send + Sync {
    /// Its name and key.
    fn identity(&self) -> &SigningIdentity;
}

/// The tenants of this cluster.
pub trait Tenants: Send + Sync + 'static {
    /// The tenant with this id, if there is one.
    fn tenant(&self, id: TenantId) -> Option<Arc<dyn Tenant>>;
}

/// What every room of this process shares.
pub struct Deps {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Time, for `origin_server_ts`.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for room ids.
    pub random: Arc<dyn Random>,
    /// The tenants.
    pub tenants: Arc<dyn Tenants>,
    /// The names of rooms' logs.
    pub names: Arc<Names>,
    /// Nodes of room states.
    pub(crate) nodes: NodeCache,
}

impl Deps {
    /// Everything that rooms need; `node_cache_bytes` bounds the cache of state nodes.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        tenants: Arc<dyn Tenants>,
        names: Arc<Names>,
        node_cache_bytes: u64,
    ) -> Arc<Self> {
        Arc::new(Self { store, bus, clock, random, tenants, names, nodes: NodeCache::new(node_cache_bytes) })
    }
}
