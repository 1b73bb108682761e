//! Records of the store: rows of rooms, state nodes, what stands in accounts, and the embedded store's own form of all of them.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use polity_core::Seq;
use polity_room_engine::{
    record::{RoomHead, RoomRow},
    state::{self, EMPTY, Node, NodeHash, Nodes, Put},
};
use polity_sync::read::{StoredRow, Unsigned, render, render_stripped};
use ruma_common::{RoomVersionId, room_id};
use serde_json::Value;
use tempfile::TempDir;

/// Nodes that a walk looks at, at most: what is damaged may go round in circles.
const NODES: usize = 64;

/// A row of a room and a head, as they stand in the log, and what clients see of the row.
pub(super) fn rows(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(head) = RoomHead::decode(bytes) {
        assert_eq!(RoomHead::decode(&head.encode().expect("into memory")), Ok(head));
    }
    if let Ok(row) = RoomRow::decode(&body) {
        assert_eq!(RoomRow::decode(&row.encode().expect("into memory")), Ok(row));
    }
    // The event alone, too: it needs no luck with what stands before it.
    let alone = RoomRow { meta: polity_room_engine::record::RowMeta::default(), pdu: body.clone() }.encode();
    for body in [body, alone.expect("into memory")] {
        let sent_by = Some(("device".into(), "send\ntxn".into()));
        let Ok(row) = StoredRow::new(Seq::new(1), Some("$event"), sent_by, &body) else { continue };
        // What isn't read whole (half a surrogate pair in a text) is in no event that was taken in: its hash couldn't be made.
        let is_whole = RoomRow::decode(&body).is_ok_and(|row| serde_json::from_slice::<Value>(&row.pdu).is_ok());
        shown(&row, is_whole);
        let rules = RoomVersionId::V11.rules().expect("a known version");
        if let Ok(redacted) = row.redacted(room_id!("!room:polity.test"), &rules) {
            shown(&redacted, is_whole);
        }
    }
}

/// What clients see is JSON, of an event that is.
fn shown(row: &StoredRow, is_whole: bool) {
    let unsigned = Unsigned {
        age_ms: Some(1),
        membership: Some("join"),
        transaction_id: row.transaction_of("device"),
        replaced: row.event.as_ref(),
        redacted_because: None,
    };
    let Some(json) = render(row, Some(room_id!("!room:polity.test")), &unsigned) else { return };
    let event = row.event.as_ref().expect("it was rendered");
    let stripped = render_stripped(event);
    if !is_whole {
        return;
    }
    let shown: Value = serde_json::from_slice(&json).expect("what clients see is JSON");
    assert_eq!(shown["type"], event.event_type.as_str());
    assert_eq!(shown["unsigned"]["transaction_id"], "txn");
    let stripped: Value = serde_json::from_slice(&stripped).expect("what clients see is JSON");
    assert_eq!(stripped["content"], shown["content"]);
}

/// One node under every name.
struct Everywhere(Arc<Node>, RefCell<usize>);

impl Nodes for Everywhere {
    fn node(&self, _: &NodeHash) -> Option<Arc<Node>> {
        let mut left = self.1.borrow_mut();
        *left = left.checked_sub(1)?;
        Some(Arc::clone(&self.0))
    }
}

/// A state node: whoever walks over a damaged one finds an end.
pub(super) fn nodes(bytes: &[u8]) {
    let hash = *blake3::hash(bytes).as_bytes();
    assert!(Node::decode(&EMPTY, bytes).is_err(), "not under another name");
    let Ok(node) = Node::decode(&hash, bytes) else { return };
    let _ = (node.count(), node.size());
    let node = Arc::new(node);
    let nodes = || Everywhere(Arc::clone(&node), RefCell::new(NODES));
    let _ = state::get(&nodes(), &hash, "m.room.name", "");
    let _ = state::entries(&nodes(), &hash);
    let _ = state::first_entries(&nodes(), &hash, 3);
    let _ = state::diff(&nodes(), &EMPTY, &hash);
    let event = ruma_common::event_id!("$x").to_owned();
    let put = |event| Put { event_type: "m.room.name".into(), state_key: "".into(), event };
    for change in [put(Some(event)), put(None)] {
        let _ = state::apply(&nodes(), &hash, &[change]);
    }
}

/// Rows of records, inboxes and device lists, and values of entries.
pub(super) fn accounts(bytes: &[u8]) {
    polity_accounts::fuzzing::rows(bytes);
    polity_accounts::fuzzing::entry(bytes);
    polity_cluster::fuzzing::beat(bytes);
}

/// Keys of the embedded store.
pub(super) fn keys(bytes: &[u8]) {
    polity_store_local::fuzzing::key(bytes);
}

/// Rows of the embedded store.
pub(super) fn records(bytes: &[u8]) {
    polity_store_local::fuzzing::record(bytes);
}

/// Rows as a CQL server gives them.
pub(super) fn cql(bytes: &[u8]) {
    polity_store_scylla::fuzzing::row(bytes);
}

thread_local! {
    static FOLDER: TempDir = TempDir::new().expect("a folder");
}

/// Files of the embedded store.
pub(super) fn files(bytes: &[u8]) {
    FOLDER.with(|folder| polity_store_local::fuzzing::files(folder.path(), bytes));
}
