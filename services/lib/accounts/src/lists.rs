//! Device-list changes: one log per tenant, one row per user and change, never a row per watcher. Changes of one user that wait
//! together are one row.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use polity_bus::{Bus, Subject, SubjectKind, Wake};
use polity_core::{Life, LogId, LogKey, Seq, TenantId};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed, read};
use polity_store::{Consistency, Store, Write};
use ruma_common::{OwnedUserId, UserId};

use crate::Error;

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;
/// Whoever is further behind than so many rows isn't told of each.
const FAR: usize = 3000;

/// The machine of the log.
pub(crate) struct ListMachine {
    bus: Arc<dyn Bus>,
    /// The users that the group tells of already.
    told: HashMap<OwnedUserId, Seq>,
}

/// The tenant's log of device-list changes.
#[must_use]
pub fn device_lists_log(tenant: TenantId) -> LogId {
    log(tenant).log
}

pub(crate) fn log(tenant: TenantId) -> LogKey {
    LogKey { tenant, log: LogId::derived(tenant, "device-lists", ""), life: Life::FIRST }
}

pub(crate) fn encode(user_id: &UserId) -> Bytes {
    [&[FORMAT, KEY_NONE], user_id.as_bytes()].concat().into()
}

/// Whose devices changed, by a row of the log; `None`: the row isn't understood.
#[must_use]
pub fn changed_user(body: &[u8]) -> Option<OwnedUserId> {
    let [FORMAT, KEY_NONE, user @ ..] = body else { return None };
    OwnedUserId::try_from(std::str::from_utf8(user).ok()?).ok()
}

impl ListMachine {
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, told: HashMap::new() }
    }
}

#[async_trait]
impl Machine for ListMachine {
    type Command = OwnedUserId;
    type Reply = Result<Seq, LogError>;

    async fn load(&mut self, _key: LogKey, _head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        Ok(())
    }

    async fn prepare(&mut self, _group: &[&OwnedUserId]) -> Result<(), LogError> {
        self.told.clear();
        Ok(())
    }

    fn dedup<'a>(&self, _command: &'a OwnedUserId) -> Option<&'a Dedup> {
        None
    }

    fn repeated(&mut self, _command: &OwnedUserId, row: &RepeatedRow) -> Self::Reply {
        Ok(row.seq)
    }

    fn decide(&mut self, user_id: &OwnedUserId, next: Seq) -> Decision<Self::Reply> {
        if let Some(seq) = self.told.get(user_id) {
            return Decision::Reply(Ok(*seq));
        }
        let row = NewRow { kind: 1, body: encode(user_id), ..NewRow::default() };
        self.told.insert(user_id.clone(), next);
        Decision::Append { rows: vec![row], reply: Ok(next), after_projection: false }
    }

    fn failed(error: LogError) -> Self::Reply {
        Err(error)
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        Ok(Sealed { head: Bytes::from_static(&[FORMAT, KEY_NONE]), ..Sealed::default() })
    }

    /// Nothing stands beside this log.
    fn project(&self, _key: LogKey, _rows: &[LogRow]) -> Vec<Write> {
        Vec::new()
    }

    fn announce(&mut self, key: LogKey, rows: &[LogRow]) {
        // Each user, since whoever hears of one looks only whom that one concerns. The newest row says enough: whoever is woken reads the
        // log.
        let newest: HashMap<&Bytes, Seq> = rows.iter().map(|row| (&row.body, row.seq)).collect();
        for row in rows.iter().filter(|row| newest.get(&row.body) == Some(&row.seq)) {
            let news = [Wake::Log(row.seq).encode(), row.body.clone()].concat().into();
            self.bus.publish(Subject::new(SubjectKind::DeviceLists, key.tenant, key.log), news);
        }
    }
}

/// Whose devices changed after a row, each with the newest row that says so, and the log's last row; `None`: those are more rows
/// than anybody should look at one by one.
pub(crate) async fn after(
    store: &dyn Store,
    tenant: TenantId,
    after: Seq,
) -> Result<Option<(BTreeMap<OwnedUserId, Seq>, Seq)>, Error> {
    const PAGE: usize = 1000;
    let (mut at, mut users) = (after, BTreeMap::new());
    for _ in 0..FAR / PAGE {
        let rows = read::after(store, log(tenant), at, PAGE, Consistency::Quorum).await?;
        let full = rows.len() == PAGE;
        at = rows.last().map_or(at, |row| row.seq);
        users.extend(rows.iter().filter_map(|row| Some((changed_user(&row.body)?, row.seq))));
        if !full {
            return Ok(Some((users, at)));
        }
    }
    Ok(None)
}

pub(crate) async fn position(store: &dyn Store, tenant: TenantId) -> Result<Seq, Error> {
    let hint = read::projected_seq(store, log(tenant)).await?;
    let found = read::head(store, log(tenant), hint, Consistency::Quorum).await?;
    Ok(found.map_or(Seq::ZERO, |found| found.head.seq))
}
