//! The machine of a user's record: whether an account may be made, whether an entry is still what the caller saw, whether a
//! device still lives, whether there is room for what a user keeps. What it decides by is read from the projection, which stands at the
//! head when a group is prepared.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use polity_bus::{Bus, Subject, SubjectKind, Wake};
use polity_core::{LogKey, Seq};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed};
use polity_store::{Store, Write};
use ruma_common::{DeviceId, OwnedUserId, UserId};

use super::{
    Change, Entry, Name, kind,
    usage::{self, Usage},
};
use crate::{
    Error,
    due::Pending,
    jobs,
    shelf::{self, Shelf},
};

/// What must hold for a row to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Must {
    /// There is no account.
    BeNew,
    /// There is one.
    Exist,
    /// An entry is what the row was worked out from.
    Same {
        /// The entry.
        name: Name,
        /// The row that set it last; `None`: none did.
        seen: Option<Seq>,
    },
    /// A device lives, and it is this life of it.
    Alive {
        /// The device.
        device_id: Box<str>,
        /// See [`crate::DeviceRef::life`].
        life: u64,
    },
}

/// A row to be appended.
pub(crate) struct Append {
    pub(crate) user_id: OwnedUserId,
    pub(crate) musts: Vec<Must>,
    /// None: no row is, and the answer only says whether all that must hold does.
    pub(crate) changes: Vec<Change>,
}

/// Why a row wasn't appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is an account, or none.
    Exists,
    /// This entry was changed in the meantime.
    Changed(Name),
    /// The device is gone.
    Gone,
    /// It is more than a user may keep.
    Full,
}

/// Where the row stands.
pub(crate) type Appended = Result<Result<Seq, Refused>, LogError>;

/// See the module.
pub(crate) struct RecordMachine {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    pending: Arc<Pending>,
    key: Option<LogKey>,
    /// Whose record it is; not known before the first row.
    user_id: Option<OwnedUserId>,
    /// The entries that the group's conditions name, as the decisions so far leave them.
    held: HashMap<Name, Option<Entry>>,
}

impl Must {
    /// The entry that it looks at.
    fn name(&self) -> Option<Name> {
        match self {
            Self::BeNew | Self::Exist => None,
            Self::Same { name, .. } => Some(name.clone()),
            Self::Alive { device_id, .. } => {
                Some(super::name((kind::DEVICE, "", &shelf::key(<&DeviceId>::from(&**device_id)))))
            }
        }
    }
}

impl Append {
    /// The entries by which it is decided.
    fn names(&self) -> impl Iterator<Item = Name> {
        let data = self.changes.iter().filter(|change| usage::counts(change));
        let usage = data.flat_map(|change| [change.name(), super::name(usage::NAME)]);
        self.musts.iter().filter_map(Must::name).chain(usage)
    }
}

impl RecordMachine {
    pub(crate) fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, pending: Arc<Pending>) -> Self {
        Self { store, bus, pending, key: None, user_id: None, held: HashMap::new() }
    }

    fn refusal(&self, must: &Must) -> Option<Refused> {
        let held = must.name().and_then(|name| self.held(&name));
        match must {
            Must::BeNew => self.user_id.is_some().then_some(Refused::Exists),
            Must::Exist => self.user_id.is_none().then_some(Refused::Exists),
            Must::Same { name, seen } => (held.map(|entry| entry.seq) != *seen).then(|| Refused::Changed(name.clone())),
            Must::Alive { device_id, life } => {
                let shelf = held.and_then(|entry| entry.value.as_deref());
                let lives = shelf.is_some_and(|shelf| Shelf::lives(shelf, device_id, *life));
                (!lives).then_some(Refused::Gone)
            }
        }
    }

    fn held(&self, name: &Name) -> Option<&Entry> {
        self.held.get(name)?.as_ref()
    }

    /// How much the user keeps after these changes, if they change that; `None`: more than there may be.
    fn usage(&self, changes: &[Change]) -> Result<Option<Vec<Change>>, Error> {
        let mut data = changes.iter().filter(|change| usage::counts(change)).peekable();
        if data.peek().is_none() {
            return Ok(Some(Vec::new()));
        }
        let now: Usage =
            self.held(&super::name(usage::NAME)).map(Entry::decode).transpose()?.flatten().unwrap_or_default();
        let then = data.try_fold(now, |usage, change| usage.with(change, self.held(&change.name())));
        let (kind, scope, key) = usage::NAME;
        then.map(|then| if then == now { Ok(Vec::new()) } else { Ok(vec![Change::set(kind, scope, key, &then)?]) })
            .transpose()
    }

    /// Notes the work that rows leave to be done.
    fn note_jobs(&self, tenant: polity_core::TenantId, user_id: &UserId, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.kind == kind::JOB && change.value.is_some()) {
            self.pending.note(tenant, user_id, &change.key);
        }
    }
}

#[async_trait]
impl Machine for RecordMachine {
    type Command = Append;
    type Reply = Appended;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.key = Some(key);
        let Some(head) = head else { return Ok(()) };
        let user_id = super::head_user(&head.state)?;
        // What a process that died (or left) didn't finish: whoever loads the record goes on with it.
        for job in jobs::owed(&*self.store, key.tenant, &user_id).await? {
            self.pending.note(key.tenant, &user_id, &job);
        }
        self.user_id = Some(user_id);
        Ok(())
    }

    async fn prepare(&mut self, group: &[&Append]) -> Result<(), LogError> {
        self.held.clear();
        let (Some(key), Some(user_id)) = (self.key, &self.user_id) else { return Ok(()) };
        let mut names: Vec<Name> = group.iter().flat_map(|append| append.names()).collect();
        names.sort_unstable();
        names.dedup();
        // All earlier rows are projected when a group is prepared, so these are the entries at the head.
        let reads = names.iter().map(|name| super::held(&*self.store, key.tenant, user_id, name));
        let entries: Vec<Option<Entry>> = futures_util::future::try_join_all(reads).await?;
        self.held = names.into_iter().zip(entries).collect();
        Ok(())
    }

    fn dedup<'a>(&self, _command: &'a Append) -> Option<&'a Dedup> {
        None
    }

    fn repeated(&mut self, _command: &Append, row: &RepeatedRow) -> Appended {
        Ok(Ok(row.seq))
    }

    fn decide(&mut self, command: &Append, next: Seq) -> Decision<Appended> {
        if let Some(refused) = command.musts.iter().find_map(|must| self.refusal(must)) {
            return Decision::Reply(Ok(Err(refused)));
        }
        if command.changes.is_empty() {
            return Decision::Reply(Ok(Ok(next)));
        }
        let owes = command.changes.iter().any(|change| change.kind == kind::JOB && change.value.is_some());
        if owes && self.pending.is_full() {
            return Decision::Reply(Err(LogError::Overloaded));
        }
        let changes = match self.usage(&command.changes) {
            Ok(Some(usage)) => [command.changes.clone(), usage].concat(),
            Ok(None) => return Decision::Reply(Ok(Err(Refused::Full))),
            Err(error) => return Decision::Reply(Err(error.into())),
        };
        for change in &changes {
            if let Some(held) = self.held.get_mut(&change.name()) {
                let Change { scope, key, value, .. } = change.clone();
                *held = Some(Entry { scope, key, value, seq: next });
            }
        }
        let body = match super::encode(&command.user_id, changes) {
            Ok(body) => body,
            Err(error) => return Decision::Reply(Err(LogError::Corrupt(error.to_string()))),
        };
        self.user_id = Some(command.user_id.clone());
        let row = NewRow { kind: 1, body, ..NewRow::default() };
        Decision::Append { rows: vec![row], reply: Ok(Ok(next)), after_projection: true }
    }

    fn failed(error: LogError) -> Appended {
        Err(error)
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        Ok(Sealed { head: super::head(self.user_id.as_deref()), ..Sealed::default() })
    }

    fn weight(&self) -> usize {
        self.held.values().flatten().map(|entry| entry.value.as_ref().map_or(0, Vec::len)).sum()
    }

    fn project(&self, key: LogKey, rows: &[LogRow]) -> Vec<Write> {
        let mut out = Vec::new();
        for row in rows {
            match super::project(key, row) {
                Ok(writes) => out.extend(writes),
                Err(error) => tracing::error!(%error, log = %key, seq = %row.seq, "a row can't be projected"),
            }
        }
        out
    }

    fn announce(&mut self, key: LogKey, rows: &[LogRow]) {
        for row in rows {
            if let Ok(changes) = super::decode(&row.body)
                && let Some(user_id) = &self.user_id
            {
                self.note_jobs(key.tenant, user_id, &changes.changes);
            }
        }
        // Whoever is woken reads the log.
        if let Some(last) = rows.last() {
            let wake = Wake::Log(last.seq).encode();
            self.bus.publish(Subject::new(SubjectKind::User, key.tenant, key.log), wake);
        }
    }
}
