//! Changing a state: new nodes along the paths of the changes, everything else shared.

use bytes::Bytes;
use ruma_common::OwnedEventId;

use super::{
    Entry, EventRef, Node, NodeHash, Nodes, StateError, entries, load, nibble,
    node::{Child, DamagedNode, EMPTY, FAN_OUT, LEAF_ENTRIES},
    place,
};

/// One entry to be set, or (without event) removed. `event_type` is empty among members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The event type.
    pub event_type: Box<str>,
    /// The state key.
    pub state_key: Box<str>,
    /// The event.
    pub event: Option<OwnedEventId>,
}

/// A changed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// Its root.
    pub root: NodeHash,
    /// The nodes that it has and the old one hadn't (or had: a node is never left out because it may be there).
    pub nodes: Vec<(NodeHash, Bytes)>,
}

/// Changes a state. Of several changes of one entry the last one counts.
///
/// # Errors
/// When a node is missing or damaged.
pub fn apply(nodes: &dyn Nodes, root: &NodeHash, changes: &[Put]) -> Result<Updated, StateError> {
    let mut placed: Vec<Placed> = Vec::with_capacity(changes.len());
    for change in changes {
        let at = place(&change.event_type, &change.state_key);
        placed.retain(|earlier| earlier.at != at);
        let event = change.event.as_deref().map(EventRef::from);
        let entry = (change.event_type.clone(), change.state_key.clone(), event);
        placed.push(Placed { at, entry });
    }
    let mut update = Update { nodes, new: Vec::new() };
    let child = update.subtree(*root, 0, placed)?;
    Ok(Updated { root: child.hash, nodes: update.new })
}

struct Placed {
    at: [u8; 32],
    entry: (Box<str>, Box<str>, Option<EventRef>),
}

struct Update<'a> {
    nodes: &'a dyn Nodes,
    new: Vec<(NodeHash, Bytes)>,
}

impl Update<'_> {
    /// The subtree `root` at `depth` with the changes made.
    fn subtree(&mut self, root: NodeHash, depth: usize, changes: Vec<Placed>) -> Result<Child, StateError> {
        if root == EMPTY {
            return self.build(Vec::new(), depth, changes);
        }
        let node = load(self.nodes, &root)?;
        match &*node {
            _ if changes.is_empty() => child(root, node.count()),
            Node::Leaf(entries) => self.build(entries.clone(), depth, changes),
            Node::Branch(children) => self.branch(*children, depth, changes),
        }
    }

    fn branch(
        &mut self,
        mut children: [Child; FAN_OUT],
        depth: usize,
        changes: Vec<Placed>,
    ) -> Result<Child, StateError> {
        let mut groups: [Vec<Placed>; FAN_OUT] = Default::default();
        for change in changes {
            groups[nibble(&change.at, depth)].push(change);
        }
        let start = self.new.len();
        for (child, group) in children.iter_mut().zip(groups).filter(|(_, group)| !group.is_empty()) {
            *child = self.subtree(child.hash, depth + 1, group)?;
        }
        let count: u64 = children.iter().map(|child| u64::from(child.count)).sum();
        if count > LEAF_ENTRIES as u64 {
            return self.add(&Node::Branch(children), count);
        }
        // Small again: one leaf, as if it had never been larger.
        let mut left = Vec::new();
        for child in children {
            left.extend(entries(&With { base: self.nodes, new: &self.new }, &child.hash)?);
        }
        self.new.truncate(start);
        self.build(left, depth, Vec::new())
    }

    /// A subtree of these entries with the changes made.
    fn build(&mut self, mut entries: Vec<Entry>, depth: usize, changes: Vec<Placed>) -> Result<Child, StateError> {
        for Placed { entry: (event_type, state_key, event), .. } in changes {
            entries.retain(|entry| entry.event_type != event_type || entry.state_key != state_key);
            entries.extend(event.map(|event| Entry { event_type, state_key, event }));
        }
        if entries.is_empty() {
            return Ok(Child::default());
        }
        entries.sort_by_cached_key(|entry| place(&entry.event_type, &entry.state_key));
        let count = entries.len() as u64;
        if entries.len() <= LEAF_ENTRIES {
            return self.add(&Node::Leaf(entries), count);
        }
        let mut groups: [Vec<Entry>; FAN_OUT] = Default::default();
        for entry in entries {
            groups[nibble(&place(&entry.event_type, &entry.state_key), depth)].push(entry);
        }
        let mut children = [Child::default(); FAN_OUT];
        for (child, group) in children.iter_mut().zip(groups) {
            *child = self.build(group, depth + 1, Vec::new())?;
        }
        self.add(&Node::Branch(children), count)
    }

    fn add(&mut self, node: &Node, count: u64) -> Result<Child, StateError> {
        let (hash, bytes) = node.encode()?;
        self.new.push((hash, bytes));
        child(hash, count)
    }
}

fn child(hash: NodeHash, count: u64) -> Result<Child, StateError> {
    let count = u32::try_from(count).map_err(|_| DamagedNode(format!("{count} entries")))?;
    Ok(Child { hash, count })
}

/// The nodes at hand and those just made.
struct With<'a> {
    base: &'a dyn Nodes,
    new: &'a [(NodeHash, Bytes)],
}

impl Nodes for With<'_> {
    fn node(&self, hash: &NodeHash) -> Option<std::sync::Arc<Node>> {
        let made = self.new.iter().find(|(name, _)| name == hash);
        made.and_then(|(hash, bytes)| Node::decode(hash, bytes).ok().map(Into::into)).or_else(|| self.base.node(hash))
    }
}
