//! What must hold of the store once nothing goes wrong any more and everybody has ended.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use polity_core::{LogKey, Seq};
use polity_log::{LogRow, Member, MemberState, read};
use polity_store::{Consistency, Store, Value, Values, rooms, schema, values_of};
use ruma_common::EventId;
use tokio::time::Instant;

use super::{TENANT, cluster::Cluster};
use crate::load::Journal;

/// So long is waited for what the dead left: they are closed only when they have been watched for a while, and one after the other.
const SEEN_TO: Duration = Duration::from_secs(240);
/// No room has so many rows.
const ROWS: usize = 100_000;
/// Between two looks.
const LOOKS: Duration = Duration::from_secs(1);

/// Nobody who is dead has anything left to finish, and every row of these rooms stands where it must be found.
pub(super) async fn check(cluster: &Arc<Cluster>, journal: &Journal, rooms: &[String]) {
    let began = Instant::now();
    loop {
        let left = left_by_the_dead(cluster).await;
        if left.is_empty() {
            break;
        }
        let waited = began.elapsed();
        journal.check(waited < SEEN_TO, format!("nobody finished in {waited:?} what is left of {left:?}"), &[]);
        tokio::time::sleep(LOOKS).await;
    }
    for room in rooms {
        let key = cluster.names().find(TENANT, room).await.ok().flatten();
        let Some(key) = key else { journal.fail(format!("the room {room} has no log"), &[room]) };
        projected(&*cluster.store, key, journal).await;
    }
}

/// The dead of whom nobody has seen yet that nothing is left.
async fn left_by_the_dead(cluster: &Cluster) -> Vec<Member> {
    let running = cluster.running();
    let Some((_, registry)) = running.first() else { return Vec::new() };
    let mut members = registry.members().await.unwrap_or_default();
    members.retain(|member| {
        member.state != MemberState::Drained && !running.iter().any(|(alive, _)| *alive == member.incarnation)
    });
    members
}

/// A log's rows are dense up to its head; each event stands once, and is found by its id and by its transaction.
async fn projected(store: &dyn Store, key: LogKey, journal: &Journal) {
    let head = read::head(store, key, Seq::ZERO, Consistency::Serial).await.ok().flatten();
    let head = head.map_or(Seq::ZERO, |found| found.head.seq);
    let rows = read::after(store, key, Seq::ZERO, ROWS, Consistency::Serial).await.unwrap_or_default();
    let last = rows.last().map_or(Seq::ZERO, |row| row.seq);
    journal.check(head == last, format!("the head of {key} is {head:?}, its rows end at {last:?}"), &[]);
    let (mut events, mut transactions) = (BTreeSet::new(), BTreeSet::new());
    for row in &rows {
        let seq = row.seq;
        if let Some(event_id) = &row.event_id {
            journal.check(events.insert(event_id), format!("{event_id} stands twice in {key}"), &[event_id]);
            let found = place(store, event_id).await;
            journal.check(found == Some(seq), format!("{event_id} is row {seq:?}, found at {found:?}"), &[event_id]);
        }
        if let (Some(device), Some(txn)) = (&row.device, &row.txn) {
            journal.check(transactions.insert((device, txn)), format!("{txn} of {device} gave two rows"), &[txn]);
            let found = transaction(store, key, row).await;
            journal.check(found == Some(seq), format!("{txn} of {device} is row {seq:?}, found at {found:?}"), &[txn]);
        }
    }
}

async fn place(store: &dyn Store, event_id: &str) -> Option<Seq> {
    let event_id = <&EventId>::try_from(event_id).ok()?;
    Some(rooms::place_of_event(store, TENANT, event_id).await.ok()??.seq)
}

async fn transaction(store: &dyn Store, key: LogKey, row: &LogRow) -> Option<Seq> {
    let partition = values_of![key.tenant, key.log, row.device.as_deref()?, row.txn.as_deref()?];
    let row = store.get(&schema::TRANSACTIONS, partition, Values::new(), Consistency::Quorum).await.ok()??;
    Some(Seq::new(row.columns.get(1)?.as_ref().and_then(Value::as_int)?.cast_unsigned()))
}
