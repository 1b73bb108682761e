//! What stands beside a room's log and is no use without it: a purge takes it, too.

use std::collections::BTreeSet;

use polity_core::{LogKey, Seq};
use polity_log::read;
use polity_room_engine::{
    record::{RoomHead, RoomRow},
    state::{EMPTY, Node, NodeHash},
};
use polity_store::{
    Consistency, Store,
    rooms::{redactions_between, state_node_if_there},
    users::display_receipts,
};

/// No new room has so many rows.
const ROWS: usize = 1_000;

/// See the module.
pub(super) struct Beside {
    key: LogKey,
    generation: u32,
    /// Of the states before and after its rows.
    nodes: BTreeSet<NodeHash>,
}

impl Beside {
    /// What there is of a log that has receipts and redactions; `None` if that isn't known now.
    pub(super) async fn of(store: &dyn Store, key: LogKey) -> Option<Self> {
        let head = read::head(store, key, Seq::ZERO, Consistency::Serial).await.ok()??.head;
        let room = RoomHead::decode(&head.state).ok()?;
        let rows = read::after(store, key, Seq::ZERO, ROWS, Consistency::Serial).await.ok()?;
        let roots = rows.iter().filter_map(|row| Some(RoomRow::decode(&row.body).ok()?.meta.roots));
        let mut stack: Vec<_> = roots.chain([room.roots]).flat_map(|roots| [roots.entries, roots.members]).collect();
        let mut beside = Self { key, generation: room.generation, nodes: BTreeSet::new() };
        while let Some(hash) = stack.pop() {
            if hash == EMPTY || !beside.nodes.insert(hash) {
                continue;
            }
            let bytes = state_node_if_there(store, key, room.generation, &hash).await.ok()??;
            if let Node::Branch(children) = Node::decode(&hash, &bytes).ok()? {
                stack.extend(children.iter().map(|child| child.hash));
            }
        }
        Some(beside)
    }

    /// What of it is there, or may be, by kind.
    pub(super) async fn left(&self, store: &dyn Store) -> Vec<&'static str> {
        let mut left = Vec::new();
        if !display_receipts(store, self.key).await.is_ok_and(|receipts| receipts.is_empty()) {
            left.push("receipts");
        }
        let last = Seq::ZERO.bucket().last_seq();
        if !redactions_between(store, self.key, Seq::ZERO, last).await.is_ok_and(|redacted| redacted.is_empty()) {
            left.push("redactions");
        }
        for hash in &self.nodes {
            if !state_node_if_there(store, self.key, self.generation, hash).await.is_ok_and(|node| node.is_none()) {
                left.push("state");
                break;
            }
        }
        left
    }
}
