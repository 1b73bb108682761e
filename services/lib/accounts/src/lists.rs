//! Device-list changes: one log per tenant, one row per user and change, never a row per watcher.

use std::collections::BTreeSet;

use bytes::Bytes;
use polity_core::{Life, LogId, LogKey, Seq, TenantId};
use polity_log::{LogError, LogRow, read};
use polity_store::{Consistency, Store, Write};
use ruma_common::{OwnedUserId, UserId};

use crate::Error;

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;

pub(crate) fn log(tenant: TenantId) -> LogKey {
    LogKey { tenant, log: LogId::derived(tenant, "device-lists", ""), life: Life::FIRST }
}

pub(crate) fn encode(user_id: &UserId) -> Bytes {
    [&[FORMAT, KEY_NONE], user_id.as_bytes()].concat().into()
}

fn decode(body: &[u8]) -> Option<OwnedUserId> {
    let [FORMAT, KEY_NONE, user @ ..] = body else { return None };
    OwnedUserId::try_from(std::str::from_utf8(user).ok()?).ok()
}

/// Nothing stands beside this log.
pub(crate) fn project(_key: LogKey, _row: &LogRow) -> Result<Vec<Write>, LogError> {
    Ok(Vec::new())
}

pub(crate) async fn after(store: &dyn Store, tenant: TenantId, after: Seq) -> Result<(Vec<OwnedUserId>, Seq), Error> {
    const PAGE: usize = 1000;
    let (mut at, mut users) = (after, BTreeSet::new());
    loop {
        let rows = read::after(store, log(tenant), at, PAGE, Consistency::Quorum).await?;
        let full = rows.len() == PAGE;
        at = rows.last().map_or(at, |row| row.seq);
        users.extend(rows.iter().filter_map(|row| decode(&row.body)));
        if !full {
            return Ok((users.into_iter().collect(), at));
        }
    }
}

pub(crate) async fn position(store: &dyn Store, tenant: TenantId) -> Result<Seq, Error> {
    let hint = read::projected_seq(store, log(tenant)).await?;
    let found = read::head(store, log(tenant), hint, Consistency::Quorum).await?;
    Ok(found.map_or(Seq::ZERO, |found| found.head.seq))
}
