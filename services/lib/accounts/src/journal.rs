//! Logs whose rows are decided by little: whether the log exists, and whether an entry is still what the caller saw. Records,
//! inboxes, device-list changes.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use polity_bus::{Bus, Subject, SubjectKind};
use polity_core::{LogKey, Seq};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed};
use polity_store::{Store, Write};
use ruma_common::OwnedUserId;

use crate::record::{self, Name};

/// What must hold for a row to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Must {
    /// The log has no row yet.
    BeNew,
    /// It has one.
    Exist,
    /// Either.
    Any,
}

/// The entry of a record that a row was worked out from: it must be the same still.
pub(crate) struct Guard {
    pub(crate) user_id: OwnedUserId,
    pub(crate) name: Name,
    /// The row that set it last; `None`: none did.
    pub(crate) seen: Option<Seq>,
}

/// A row to be appended.
pub(crate) struct Append {
    pub(crate) must: Must,
    pub(crate) guard: Option<Guard>,
    /// The entries that the row sets.
    pub(crate) sets: Vec<Name>,
    pub(crate) body: Bytes,
    pub(crate) dedup: Option<Dedup>,
}

/// Why a row wasn't appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The log has a row, or has none.
    Exists,
    /// The guarded entry was changed in the meantime.
    Changed,
}

/// Where the row stands.
pub(crate) type Appended = Result<Result<Seq, Refused>, LogError>;

/// What rows mean beside the log.
pub(crate) type Project = fn(LogKey, &LogRow) -> Result<Vec<Write>, LogError>;

/// See the module.
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    wakes: SubjectKind,
    project: Project,
    exists: bool,
    /// The guarded entries of the group, and the rows that set them last.
    guarded: HashMap<Name, Option<Seq>>,
    key: Option<LogKey>,
}

impl Append {
    /// A row under no condition but the transaction.
    pub(crate) fn plain(body: Bytes, dedup: Option<Dedup>) -> Self {
        Self { must: Must::Any, guard: None, sets: Vec::new(), body, dedup }
    }
}

impl Journal {
    pub(crate) fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, wakes: SubjectKind, project: Project) -> Self {
        Self { store, bus, wakes, project, exists: false, guarded: HashMap::new(), key: None }
    }
}

#[async_trait]
impl Machine for Journal {
    type Command = Append;
    type Reply = Appended;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.exists = head.is_some();
        self.key = Some(key);
        Ok(())
    }

    async fn prepare(&mut self, group: &[&Append]) -> Result<(), LogError> {
        self.guarded.clear();
        let Some(key) = self.key else { return Ok(()) };
        for guard in group.iter().filter_map(|append| append.guard.as_ref()) {
            if !self.guarded.contains_key(&guard.name) {
                // All earlier rows are projected when a group is prepared, so this is the entry at the head.
                let set_by = record::set_by(&*self.store, key.tenant, &guard.user_id, &guard.name).await?;
                self.guarded.insert(guard.name.clone(), set_by);
            }
        }
        Ok(())
    }

    fn dedup<'a>(&self, command: &'a Append) -> Option<&'a Dedup> {
        command.dedup.as_ref()
    }

    fn repeated(&mut self, _command: &Append, row: &RepeatedRow) -> Appended {
        Ok(Ok(row.seq))
    }

    fn decide(&mut self, command: Append, next: Seq) -> Decision<Appended> {
        let holds = match command.must {
            Must::BeNew => !self.exists,
            Must::Exist => self.exists,
            Must::Any => true,
        };
        if !holds {
            return Decision::Reply(Ok(Err(Refused::Exists)));
        }
        if let Some(guard) = &command.guard
            && self.guarded.get(&guard.name).copied().flatten() != guard.seen
        {
            return Decision::Reply(Ok(Err(Refused::Changed)));
        }
        self.exists = true;
        for name in command.sets {
            self.guarded.entry(name).and_modify(|set_by| *set_by = Some(next));
        }
        let (device, txn) = command.dedup.map(|dedup| (dedup.device, dedup.txn)).unzip();
        let row = NewRow { kind: 1, event_id: None, device, txn, body: command.body };
        Decision::Append { rows: vec![row], reply: Ok(Ok(next)), after_projection: true }
    }

    fn failed(error: LogError) -> Appended {
        Err(error)
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        // The format byte and the key id of a head without content.
        Ok(Sealed { head: Bytes::from_static(&[1, 0]), before: Vec::new() })
    }

    fn project(&self, key: LogKey, rows: &[LogRow]) -> Vec<Write> {
        let mut out = Vec::new();
        for row in rows {
            match (self.project)(key, row) {
                Ok(writes) => out.extend(writes),
                Err(error) => tracing::error!(%error, log = %key, seq = %row.seq, "a row can't be projected"),
            }
        }
        out
    }

    fn announce(&mut self, key: LogKey, rows: &[LogRow]) {
        // The newest row says enough: whoever is woken reads the log.
        if let Some(last) = rows.last() {
            let payload = if self.wakes == SubjectKind::DeviceLists { last.body.clone() } else { Bytes::new() };
            self.bus.publish(Subject::new(self.wakes, key.tenant, key.log), payload);
        }
    }
}
