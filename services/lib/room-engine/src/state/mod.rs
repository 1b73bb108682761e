//! State as a content-addressed, persistent hash trie of event ids: equal states have equal roots and share their nodes, a change
//! writes O(log n) of them, two states are compared in time proportional to their difference.
//!
//! Nothing here reads a store: a node that isn't at hand is named by [`StateError::Missing`]; the caller gets it and asks again.
//! The shape is a function of the entries alone, whatever the order in which they came.

mod node;
mod update;

use std::sync::Arc;

use ruma_common::OwnedEventId;

pub use node::{Child, DamagedNode, EMPTY, Entry, EventRef, Node, NodeHash};
pub use update::{Put, Updated, apply};

use node::FAN_OUT;

/// Where nodes come from: a cache.
pub trait Nodes {
    /// The node, if it is at hand.
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// This node is needed.
    #[error("a state node is not at hand")]
    Missing(NodeHash),
    /// A node is damaged.
    #[error(transparent)]
    Damaged(#[from] DamagedNode),
}

/// Which of a room's two tries an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but memberships.
    Entries,
    /// Memberships: the key is the user.
    Members,
}

impl Part {
    /// The part of an event type.
    #[must_use]
    pub fn of(event_type: &str) -> Self {
        if event_type == MEMBER { Self::Members } else { Self::Entries }
    }
}

const MEMBER: &str = "m.room.member";

/// An entry that differs between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The event type; empty among members.
    pub event_type: Box<str>,
    /// The state key.
    pub state_key: Box<str>,
    /// What the second state has there.
    pub now: Option<OwnedEventId>,
}

/// The place of a key in the trie. `event_type` is empty among members.
fn place(event_type: &str, state_key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("polity state key v1");
    hasher.update(&(event_type.len() as u64).to_be_bytes());
    hasher.update(event_type.as_bytes());
    hasher.update(state_key.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The four bits of a place at a depth.
fn nibble(place: &[u8; 32], depth: usize) -> usize {
    let byte = place[(depth / 2) % 32];
    usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

fn load(nodes: &dyn Nodes, hash: &NodeHash) -> Result<Arc<Node>, StateError> {
    nodes.node(hash).ok_or(StateError::Missing(*hash))
}

/// The event at a key (`event_type` empty among members).
///
/// # Errors
/// When a node is missing or damaged.
pub fn get(
    nodes: &dyn Nodes,
    root: &NodeHash,
    event_type: &str,
    state_key: &str,
) -> Result<Option<OwnedEventId>, StateError> {
    let place = place(event_type, state_key);
    let mut hash = *root;
    for depth in 0.. {
        if hash == EMPTY {
            break;
        }
        match &*load(nodes, &hash)? {
            Node::Leaf(entries) => {
                let entry = entries.iter().find(|e| *e.event_type == *event_type && *e.state_key == *state_key);
                return Ok(entry.map(|entry| entry.event.to_id()).transpose()?);
            }
            Node::Branch(children) => hash = children[nibble(&place, depth)].hash,
        }
    }
    Ok(None)
}

/// All entries, in the order of the trie.
///
/// # Errors
/// When a node is missing or damaged.
pub fn entries(nodes: &dyn Nodes, root: &NodeHash) -> Result<Vec<Entry>, StateError> {
    first_entries(nodes, root, usize::MAX)
}

/// The first `limit` entries in the order of the trie, which says nothing about them; no more nodes are read than they stand in.
///
/// # Errors
/// When a node is missing or damaged.
pub fn first_entries(nodes: &dyn Nodes, root: &NodeHash, limit: usize) -> Result<Vec<Entry>, StateError> {
    let mut out = Vec::new();
    let mut stack = vec![*root];
    while let Some(hash) = stack.pop().filter(|_| out.len() < limit) {
        if hash == EMPTY {
            continue;
        }
        match &*load(nodes, &hash)? {
            Node::Leaf(entries) => out.extend(entries.iter().cloned()),
            Node::Branch(children) => stack.extend(children.iter().rev().map(|child| child.hash)),
        }
    }
    out.truncate(limit);
    Ok(out)
}

/// What differs between two states; equal subtrees aren't looked into.
///
/// # Errors
/// When a node is missing or damaged.
pub fn diff(nodes: &dyn Nodes, before: &NodeHash, after: &NodeHash) -> Result<Vec<Difference>, StateError> {
    let mut out = Vec::new();
    let mut stack = vec![(*before, *after)];
    while let Some((before, after)) = stack.pop() {
        if before == after {
            continue;
        }
        match (branch(nodes, &before)?, branch(nodes, &after)?) {
            (Some(old), Some(new)) => stack.extend((0..FAN_OUT).map(|at| (old[at].hash, new[at].hash))),
            _ => diff_entries(&entries(nodes, &before)?, &entries(nodes, &after)?, &mut out)?,
        }
    }
    Ok(out)
}

fn branch(nodes: &dyn Nodes, hash: &NodeHash) -> Result<Option<[Child; FAN_OUT]>, StateError> {
    if *hash == EMPTY {
        return Ok(None);
    }
    Ok(match &*load(nodes, hash)? {
        Node::Leaf(_) => None,
        Node::Branch(children) => Some(*children),
    })
}

/// One side is a leaf, so the other has few more entries than that or is wholly new.
fn diff_entries(before: &[Entry], after: &[Entry], out: &mut Vec<Difference>) -> Result<(), StateError> {
    let key = |entry: &Entry| (entry.event_type.clone(), entry.state_key.clone());
    let old: std::collections::HashMap<_, _> = before.iter().map(|entry| (key(entry), &entry.event)).collect();
    let mut kept = std::collections::HashSet::new();
    for entry in after {
        let key = key(entry);
        if old.get(&key) != Some(&&entry.event) {
            let now = Some(entry.event.to_id()?);
            out.push(Difference { event_type: entry.event_type.clone(), state_key: entry.state_key.clone(), now });
        }
        kept.insert(key);
    }
    for entry in before.iter().filter(|entry| !kept.contains(&key(entry))) {
        out.push(Difference { event_type: entry.event_type.clone(), state_key: entry.state_key.clone(), now: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
