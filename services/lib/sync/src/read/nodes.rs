//! State nodes for readers: immutable, so the cache has a bound and nothing else.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use polity_core::{LogKey, TenantId};
use polity_room_engine::state::{Node, NodeHash, Nodes, StateError};
use polity_store::{Store, rooms};
use quick_cache::{Weighter, sync::Cache};

use super::ReadError;

#[derive(Clone)]
pub(super) struct BySize;

impl Weighter<(TenantId, NodeHash), Arc<Node>> for BySize {
    fn weight(&self, _key: &(TenantId, NodeHash), node: &Arc<Node>) -> u64 {
        node.size() as u64 + 64
    }
}

pub(super) type NodeCache = Cache<(TenantId, NodeHash), Arc<Node>, BySize>;

/// The nodes at hand for one question.
struct AtHand<'a> {
    cache: &'a NodeCache,
    tenant: TenantId,
    /// Nodes got for this question: the cache may lose them again.
    got: RefCell<HashMap<NodeHash, Arc<Node>>>,
}

impl Nodes for AtHand<'_> {
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>> {
        self.got.borrow().get(hash).cloned().or_else(|| self.cache.get(&(self.tenant, *hash)))
    }
}

/// Answers a question about a state, getting the nodes that it needs.
pub(super) async fn ask<T>(
    store: &dyn Store,
    cache: &NodeCache,
    (key, generation): (LogKey, u32),
    question: impl Fn(&dyn Nodes) -> Result<T, StateError>,
) -> Result<T, ReadError> {
    let mut got = HashMap::new();
    loop {
        let missing = {
            let at_hand = AtHand { cache, tenant: key.tenant, got: RefCell::new(got) };
            match question(&at_hand) {
                Ok(answer) => return Ok(answer),
                Err(StateError::Missing(hash)) => {
                    got = at_hand.got.into_inner();
                    hash
                }
                Err(StateError::Damaged(error)) => return Err(ReadError::Damaged(error.to_string())),
            }
        };
        let bytes = rooms::state_node(store, key, generation, &missing).await?;
        let node = Node::decode(&missing, &bytes).map_err(|error| ReadError::Damaged(error.to_string()))?;
        let node = Arc::new(node);
        cache.insert((key.tenant, missing), Arc::clone(&node));
        got.insert(missing, node);
    }
}
