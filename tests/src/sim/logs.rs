//! What must hold of all logs and of the registry once everybody has ended, and what was late has come: nothing is left to do, and nobody
//! who is closed could open anything.

use polity_core::{Life, LogId, LogKey, Seq, TenantId};
use polity_log::{LogError, read};
use polity_room_engine::record::RoomHead;
use polity_store::{Bounds, Consistency, Store, Value, Values, schema, values_of};
use ruma_common::UserId;

use super::{purge, torn::TornStore};
use crate::load::{Journal, rows};

/// The partition of all processes, and the key of a slot's own row.
const CLUSTER: &str = "polity";
const SLOT: &str = "";
/// What the guards of a process, and of a slot, say while it is open.
const OPEN_PROCESS: i64 = 0;
const OPEN_SLOT: i64 = 1;
/// Processes that there ever are.
const PROCESSES: usize = 1000;

/// See the module.
pub(super) async fn check(store: &TornStore, journal: &Journal) {
    for log in store.logs() {
        let Some(key) = key(&log) else { journal.fail(format!("{log:?} is no log"), &[]) };
        let found = read::head(store, key, Seq::ZERO, Consistency::Serial).await;
        if matches!(found, Err(LogError::Sealed)) {
            purge::is_gone(store, key, journal).await;
        }
        let found = found.ok().flatten();
        let Some(head) = found.map(|found| found.head) else { continue };
        let (seq, projected) = (head.seq, read::projected_seq(store, key).await.ok());
        journal.check(
            projected == Some(seq),
            format_args!("{key} is projected up to {projected:?}, its head is {seq:?}"),
            &[],
        );
        // Rooms that somebody made and nobody went on with, too.
        if RoomHead::decode(&head.state).is_ok() {
            rows::check(store, key, journal).await;
        }
    }
    for record in store.records() {
        let (tenant, user) = (record.first().and_then(Value::as_int), record.get(1).and_then(Value::as_text));
        let tenant = TenantId::new(tenant.unwrap_or_default().cast_unsigned());
        nothing_is_owed(store, journal, (tenant, user.unwrap_or_default())).await;
    }
    slots_are_closed(store, journal).await;
}

/// A user's record owes nothing.
pub(super) async fn nothing_is_owed(store: &TornStore, journal: &Journal, (tenant, user): (TenantId, &str)) {
    let Ok(user_id) = <&UserId>::try_from(user) else { journal.fail(format!("{user} is no user"), &[]) };
    let owed = polity_accounts::owed(store, tenant, user_id).await;
    journal.check(
        owed.as_ref().is_ok_and(Vec::is_empty),
        format_args!("the record of {user} owes {owed:?}, and nobody does it"),
        &[],
    );
}

fn key(log: &Values) -> Option<LogKey> {
    let tenant = TenantId::new(log.first()?.as_int()?.cast_unsigned());
    Some(LogKey { tenant, log: LogId::from_slice(log.get(1)?.as_blob()?).ok()?, life: Life::FIRST })
}

async fn slots_are_closed(store: &TornStore, journal: &Journal) {
    let all = store.scan(&schema::MEMBERS, values_of![CLUSTER], Bounds::all(), PROCESSES, Consistency::Serial).await;
    for process in all.unwrap_or_default().rows {
        let (state, slots) = process.guards.unwrap_or_default();
        let Some(incarnation) = process.key.first().and_then(Value::as_blob) else { continue };
        for slot in 1..=slots {
            let partition = values_of![incarnation.clone(), slot];
            let row = store.get(&schema::ACTIVE, partition, values_of![SLOT], Consistency::Serial).await.ok().flatten();
            let open = row.and_then(|row| row.guards).is_some_and(|(open, _)| open == OPEN_SLOT);
            let fault = format_args!("slot {slot} of {incarnation:?} is open, which is closed");
            journal.check(state == OPEN_PROCESS || !open, fault, &[]);
        }
    }
}
