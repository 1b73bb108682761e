//! What must hold of a room's log at the end: its rows are dense, each event stands once, whatever is derived from them stands where it must
//! be found, and the state is what a straightforward replay gives.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use polity_core::{LogKey, Seq, TenantId};
use polity_log::{LogRow, Names, check_rows, read};
use polity_room_engine::{
    record::{RoomHead, RoomRow, Roots, StateDelta},
    state::{self, Node, NodeHash, Nodes, Part, Put},
};
use polity_store::{Consistency, Store, Value, Values, rooms, schema, values_of};
use ruma_common::{EventId, UserId};
use serde::Deserialize;

use super::{Journal, derived::Derived};

/// No room has so many rows.
const ROWS: usize = 100_000;

/// A replay of a room: all that it is by its rows alone.
#[derive(Default)]
struct Replay {
    roots: Roots,
    nodes: HashMap<NodeHash, Arc<Node>>,
    /// Each user's last membership, and on which row.
    memberships: BTreeMap<String, (String, Seq)>,
}

impl Nodes for Replay {
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>> {
        self.nodes.get(hash).cloned()
    }
}

impl Replay {
    fn change(&mut self, delta: &StateDelta) {
        let part = Part::of(&delta.event_type);
        let (root, kind) = match part {
            Part::Entries => (self.roots.entries, delta.event_type.as_str()),
            Part::Members => (self.roots.members, ""),
        };
        let put =
            Put { event_type: kind.into(), state_key: delta.state_key.as_str().into(), event: delta.after.clone() };
        let updated = state::apply(&*self, &root, &[put]).expect("its nodes are at hand");
        for (hash, bytes) in updated.nodes {
            self.nodes.insert(hash, Arc::new(Node::decode(&hash, &bytes).expect("a node")));
        }
        match part {
            Part::Entries => self.roots.entries = updated.root,
            Part::Members => self.roots.members = updated.root,
        }
    }
}

/// Checks the log of a room, which must have one.
pub(crate) async fn check_room(store: &dyn Store, names: &Names, (tenant, room): (TenantId, &str), journal: &Journal) {
    let key = names.find(tenant, room).await.ok().flatten();
    let Some(key) = key else { journal.fail(format!("the room {room} has no log"), &[room]) };
    check(store, key, journal).await;
}

/// Checks a log of a room.
pub(crate) async fn check(store: &dyn Store, key: LogKey, journal: &Journal) {
    let found = read::head(store, key, Seq::ZERO, Consistency::Serial).await.ok().flatten();
    let Some(head) = found.map(|found| found.head) else { journal.fail(format!("{key} has no head"), &[]) };
    let rows = match read::after(store, key, Seq::ZERO, ROWS, Consistency::Serial).await {
        Ok(rows) => rows,
        Err(error) => journal.fail(format!("the rows of {key} can't be read: {error}"), &[]),
    };
    if let Err((seq, fault)) = check_rows(Seq::ZERO, &rows, head.seq) {
        let of_row = rows.iter().filter(|row| row.seq == seq);
        let about: Vec<&str> = of_row.flat_map(|row| [&row.event_id, &row.txn]).filter_map(Option::as_deref).collect();
        journal.fail(format!("of {key}: {fault}"), &about);
    }
    let (mut replay, mut derived) = (Replay::default(), Derived::default());
    for row in &rows {
        let seq = row.seq;
        if let Some(event_id) = &row.event_id {
            let found = place(store, key, event_id).await;
            journal.check(
                found == Some(seq),
                format_args!("{event_id} is row {seq:?}, found at {found:?}"),
                &[event_id],
            );
        }
        if let (Some(device), Some(txn)) = (&row.device, &row.txn) {
            let found = transaction(store, key, row).await;
            journal.check(
                found == Some(seq),
                format_args!("{txn} of {device} is row {seq:?}, found at {found:?}"),
                &[txn],
            );
        }
        let Ok(decoded) = RoomRow::decode(&row.body) else { journal.fail(format!("row {seq:?} can't be read"), &[]) };
        if decoded.meta.group_first == seq {
            let (is, was) = (decoded.meta.roots, replay.roots);
            journal.check(
                is == was,
                format_args!("before row {seq:?} of {key} the state is {is:?}, replayed {was:?}"),
                &[],
            );
        }
        let (due, told) = (change_by(row, &decoded.pdu), changes_told(&decoded.meta.deltas));
        let right = due.as_ref().is_ok_and(|due| due.as_slice() == told);
        let fault = format_args!("row {seq:?} of {key} changes {due:?} by its event, {told:?} by its record");
        journal.check(right, fault, &[]);
        decoded.meta.deltas.iter().for_each(|delta| replay.change(delta));
        if let Err(fault) = derived.take(seq, &decoded) {
            journal.fail(format_args!("of {key}: {fault}"), &[]);
        }
        if let Some(change) = decoded.meta.membership {
            replay.memberships.insert(change.user_id.to_string(), (change.membership, seq));
        }
    }
    let Ok(room) = RoomHead::decode(&head.state) else { journal.fail(format!("the head of {key} can't be read"), &[]) };
    let (is, was) = (room.roots, replay.roots);
    journal.check(is == was, format_args!("at the head of {key} the state is {is:?}, replayed {was:?}"), &[]);
    for (root, part) in [(is.entries, "entries"), (is.members, "members")] {
        let stands = root == state::EMPTY || rooms::state_node(store, key, room.generation, &root).await.is_ok();
        journal.check(stands, format_args!("the {part} of the state of {key} aren't there"), &[]);
    }
    derived.check(&room, journal);
    found_elsewhere(store, (key, &room), (&replay, &derived), journal).await;
}

/// What is read beside the room says the same: the directory, and its members' lists of rooms.
async fn found_elsewhere(
    store: &dyn Store,
    (key, room): (LogKey, &RoomHead),
    (replay, derived): (&Replay, &Derived),
    journal: &Journal,
) {
    let listed = rooms::listed_rooms(store, key.tenant).await;
    let (is, due) = (listed.map(|listed| listed.contains(&room.room_id)), derived.is_listed());
    let fault = format!("{} is in the directory: {is:?}, by its rows it is: {due}", room.room_id);
    journal.check(is.is_ok_and(|is| is == due), fault, &[]);
    for (user, (membership, seq)) in &replay.memberships {
        let Ok(user_id) = <&UserId>::try_from(user.as_str()) else { continue };
        let found = rooms::membership(store, key.tenant, user_id, &room.room_id).await.ok().flatten();
        let found = found.map(|found| (found.membership, found.position.seq, found.since));
        let since = derived.stretches().get(user).map_or(*seq, |(_, since)| *since);
        let due = (membership.clone(), *seq, since);
        journal.check(
            found == Some(due.clone()),
            format_args!("{user} is {due:?} in {key}, found as {found:?}"),
            &[user],
        );
    }
}

/// A change of the state: type, state key and event.
type StateChange = (String, String, Option<String>);

/// The parts of an event that say what state it is.
#[derive(Deserialize)]
struct Stated {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
}

/// What a row's event itself says that it changes.
fn change_by(row: &LogRow, pdu: &[u8]) -> Result<Option<StateChange>, serde_json::Error> {
    let Some(event_id) = row.event_id.as_deref() else { return Ok(None) };
    let Stated { event_type, state_key } = serde_json::from_slice(pdu)?;
    Ok(state_key.map(|state_key| (event_type, state_key, Some(event_id.to_owned()))))
}

fn changes_told(deltas: &[StateDelta]) -> Vec<StateChange> {
    let after = |delta: &StateDelta| delta.after.as_ref().map(ToString::to_string);
    deltas.iter().map(|delta| (delta.event_type.clone(), delta.state_key.clone(), after(delta))).collect()
}

async fn place(store: &dyn Store, key: LogKey, event_id: &str) -> Option<Seq> {
    let event_id = <&EventId>::try_from(event_id).ok()?;
    Some(rooms::place_of_event(store, key.tenant, event_id).await.ok()??.seq)
}

async fn transaction(store: &dyn Store, key: LogKey, row: &LogRow) -> Option<Seq> {
    let partition = values_of![key.tenant, key.log, row.device.as_deref()?, row.txn.as_deref()?];
    let row = store.get(&schema::TRANSACTIONS, partition, Values::new(), Consistency::Quorum).await.ok()??;
    Some(Seq::new(row.columns.get(1)?.as_ref().and_then(Value::as_int)?.cast_unsigned()))
}
