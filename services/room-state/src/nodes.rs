//! State nodes in memory: immutable, so the cache needs no invalidation, only a bound.

use std::{collections::HashMap, sync::Arc};

use polity_core::{LogKey, TenantId};
use polity_log::LogError;
use polity_room_engine::state::{EMPTY, Node, NodeHash, Nodes, StateError};
use polity_store::{Store, rooms};
use quick_cache::{Weighter, sync::Cache};

use crate::metric;

/// Nodes by tenant and hash.
pub(crate) struct NodeCache {
    cache: Cache<(TenantId, NodeHash), Arc<Node>, BySize>,
}

#[derive(Clone)]
struct BySize;

impl Weighter<(TenantId, NodeHash), Arc<Node>> for BySize {
    fn weight(&self, _key: &(TenantId, NodeHash), node: &Arc<Node>) -> u64 {
        node.size() as u64 + 64
    }
}

/// The nodes that one group of commands needs: read before, at hand while it is decided.
#[derive(Default)]
pub(crate) struct Pinned(HashMap<NodeHash, Arc<Node>>);

impl NodeCache {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { cache: Cache::with_weighter(usize::try_from(bytes / 2048).unwrap_or(1024), bytes, BySize) }
    }

    /// Tells how full it is.
    pub(crate) fn tell_size(&self) {
        let bytes = u32::try_from(self.cache.weight() / 1024).unwrap_or(u32::MAX);
        metrics::gauge!(metric::NODE_CACHE_BYTES).set(f64::from(bytes) * 1024.0);
    }

    pub(crate) fn insert(&self, tenant: TenantId, hash: NodeHash, node: Arc<Node>) {
        self.cache.insert((tenant, hash), node);
    }

    /// Answers a question about a state, getting the nodes that it needs.
    pub(crate) async fn ask<T>(
        &self,
        store: &dyn Store,
        key: LogKey,
        generation: u32,
        pinned: &mut Pinned,
        question: impl Fn(&dyn Nodes) -> Result<T, StateError>,
    ) -> Result<T, LogError> {
        loop {
            match question(pinned) {
                Ok(answer) => return Ok(answer),
                Err(StateError::Missing(hash)) => {
                    let node = self.node(store, key, generation, &hash).await?;
                    pinned.0.insert(hash, node);
                }
                Err(StateError::Damaged(error)) => return Err(LogError::Corrupt(error.to_string())),
            }
        }
    }

    async fn node(
        &self,
        store: &dyn Store,
        key: LogKey,
        generation: u32,
        hash: &NodeHash,
    ) -> Result<Arc<Node>, LogError> {
        debug_assert_ne!(*hash, EMPTY, "the empty trie has no node");
        if let Some(node) = self.cache.get(&(key.tenant, *hash)) {
            metrics::counter!(metric::NODE_READS, "from" => "memory").increment(1);
            return Ok(node);
        }
        metrics::counter!(metric::NODE_READS, "from" => "store").increment(1);
        let bytes = rooms::state_node(store, key, generation, hash).await?;
        let node = Arc::new(Node::decode(hash, &bytes).map_err(|error| LogError::Corrupt(error.to_string()))?);
        self.insert(key.tenant, *hash, Arc::clone(&node));
        Ok(node)
    }
}

impl Nodes for Pinned {
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>> {
        self.0.get(hash).cloned()
    }
}
