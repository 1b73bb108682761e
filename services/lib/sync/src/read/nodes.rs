//! State nodes for readers: immutable, so the cache has a bound and nothing else.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use polity_core::{LogKey, TenantId};
use polity_room_engine::state::{EMPTY, Entry, Node, NodeHash, Nodes, StateError};
use polity_store::{Store, rooms};
use quick_cache::{Weighter, sync::Cache};

use super::ReadError;

/// Reads of one question under way at once.
pub(super) const AT_ONCE: usize = 32;

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
        got.insert(missing, node(store, cache, (key, generation), missing).await?);
    }
}

/// A node, read if it isn't in the cache.
async fn node(
    store: &dyn Store,
    cache: &NodeCache,
    (key, generation): (LogKey, u32),
    hash: NodeHash,
) -> Result<Arc<Node>, ReadError> {
    if let Some(node) = cache.get(&(key.tenant, hash)) {
        return Ok(node);
    }
    let bytes = rooms::state_node(store, key, generation, &hash).await?;
    let node = Node::decode(&hash, &bytes).map_err(|error| ReadError::Damaged(error.to_string()))?;
    let node = Arc::new(node);
    cache.insert((key.tenant, hash), Arc::clone(&node));
    Ok(node)
}

/// All entries of a state, in no order. Each node is asked for once, several at once: a large state is no question for [`ask`].
pub(super) async fn entries(
    store: &dyn Store,
    cache: &NodeCache,
    of: (LogKey, u32),
    root: NodeHash,
) -> Result<Vec<Entry>, ReadError> {
    let (mut out, mut next) = (Vec::new(), vec![root]);
    while !next.is_empty() {
        // The deepest first, so that few wait at a time.
        let some = next.split_off(next.len().saturating_sub(AT_ONCE));
        let reads = some.into_iter().filter(|hash| *hash != EMPTY).map(|hash| node(store, cache, of, hash));
        let nodes: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        for node in nodes {
            match &*node {
                Node::Leaf(entries) => out.extend(entries.iter().cloned()),
                Node::Branch(children) => next.extend(children.iter().map(|child| child.hash)),
            }
        }
    }
    Ok(out)
}
