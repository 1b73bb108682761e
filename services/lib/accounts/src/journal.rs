//! Logs whose rows are decided by nothing but whether the log exists: records, inboxes, device-list changes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use polity_bus::{Bus, Subject, SubjectKind};
use polity_core::{LogKey, Seq};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed};
use polity_store::Write;

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

/// A row to be appended.
pub(crate) struct Append {
    pub(crate) must: Must,
    pub(crate) body: Bytes,
    pub(crate) dedup: Option<Dedup>,
}

/// Where it stands; `None` if what must hold doesn't.
pub(crate) type Appended = Result<Option<Seq>, LogError>;

/// What rows mean beside the log.
pub(crate) type Project = fn(LogKey, &LogRow) -> Result<Vec<Write>, LogError>;

/// See the module.
pub(crate) struct Journal {
    bus: Arc<dyn Bus>,
    wakes: SubjectKind,
    project: Project,
    exists: bool,
}

impl Journal {
    pub(crate) fn new(bus: Arc<dyn Bus>, wakes: SubjectKind, project: Project) -> Self {
        Self { bus, wakes, project, exists: false }
    }
}

#[async_trait]
impl Machine for Journal {
    type Command = Append;
    type Reply = Appended;

    async fn load(&mut self, _key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.exists = head.is_some();
        Ok(())
    }

    async fn prepare(&mut self, _group: &[&Append]) -> Result<(), LogError> {
        Ok(())
    }

    fn dedup<'a>(&self, command: &'a Append) -> Option<&'a Dedup> {
        command.dedup.as_ref()
    }

    fn repeated(&mut self, _command: &Append, row: &RepeatedRow) -> Appended {
        Ok(Some(row.seq))
    }

    fn decide(&mut self, command: Append, next: Seq) -> Decision<Appended> {
        let holds = match command.must {
            Must::BeNew => !self.exists,
            Must::Exist => self.exists,
            Must::Any => true,
        };
        if !holds {
            return Decision::Reply(Ok(None));
        }
        self.exists = true;
        let (device, txn) = command.dedup.map(|dedup| (dedup.device, dedup.txn)).unzip();
        let row = NewRow { kind: 1, event_id: None, device, txn, body: command.body };
        Decision::Append { rows: vec![row], reply: Ok(Some(next)), after_projection: true }
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
