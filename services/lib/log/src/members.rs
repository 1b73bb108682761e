//! Who was there: the rows of the table `members`.

use bytes::Bytes;
use polity_core::IncarnationId;
use polity_store::{Bounds, Consistency, Row, Store, Value, Values, schema, values_of};

use crate::LogError;

/// All processes that share a store.
pub(crate) const CLUSTER: &str = "polity";

/// The columns of a row.
const KIND: usize = 0;
const NODE: usize = 1;
const VERSION: usize = 2;
const FIRST_SLOT: usize = 3;
const ADDRESS: usize = 4;
const TOLD: usize = 5;
const COLUMNS: usize = 6;

/// Which version of what processes tell each other a process speaks.
const SPOKEN: i64 = 1;

/// A run of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which run it is.
    pub incarnation: IncarnationId,
    /// What it serves: `client-api`, `room-state`, or `polity` for both.
    pub kind: Box<str>,
    /// The name of the process: a node runs once at a time.
    pub node: Box<str>,
    /// The version of what it tells others.
    pub version: i64,
    /// Where it answers other processes ("host:port"); empty: nowhere.
    pub address: Box<str>,
    /// Whether it still writes.
    pub state: MemberState,
    /// The number of the last entry of its journal, once it has left in order: it has written nothing after that.
    pub told: Option<u64>,
}

/// The registry, read whole.
#[derive(Debug, Default)]
pub struct Listed {
    /// Every run that is in it.
    pub members: Vec<Member>,
    /// How many runs were taken out of it, ever.
    pub pruned: u64,
}

/// How far the end of a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It may write.
    Open,
    /// It may open no log any more; what it had open isn't finished yet.
    Closed,
    /// All that it had open is finished.
    Drained,
}

impl Member {
    /// A run that has just begun.
    #[must_use]
    pub fn new(incarnation: IncarnationId, kind: &str, node: &str, address: &str) -> Self {
        let (kind, node, address) = (kind.into(), node.into(), address.into());
        Self { incarnation, kind, node, version: SPOKEN, address, state: MemberState::Open, told: None }
    }

    /// Reads a row; `None` if it isn't one.
    pub(crate) fn from_row(row: &Row) -> Option<Self> {
        let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
        let text = |at: usize| column(at).and_then(Value::as_text).unwrap_or_default().into();
        Some(Self {
            incarnation: IncarnationId::from_slice(row.key.first()?.as_blob()?).ok()?,
            kind: text(KIND),
            node: text(NODE),
            version: column(VERSION).and_then(Value::as_int).unwrap_or(SPOKEN),
            address: text(ADDRESS),
            state: MemberState::from_guard(row.guards?.0)?,
            told: column(TOLD).and_then(Value::as_int).and_then(|told| u64::try_from(told).ok()),
        })
    }

    /// The row of a run with its first slot.
    pub(crate) fn to_row(&self, slots: i64) -> Row {
        let columns = vec![
            Some((&*self.kind).into()),
            Some((&*self.node).into()),
            Some(Value::Int(self.version)),
            Some(Value::Int(1)),
            Some((&*self.address).into()),
            None,
        ];
        Row::new(key(self.incarnation), Bytes::new()).guarded(self.state.guard(), slots).with_columns(columns)
    }
}

impl MemberState {
    /// The guard that says it.
    pub(crate) const fn guard(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Closed => 1,
            Self::Drained => 2,
        }
    }

    fn from_guard(guard: i64) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Drained].into_iter().find(|state| state.guard() == guard)
    }
}

/// The state of a run that is taken out: nobody knows it any more, only its slots are still to be dropped.
pub(crate) const GONE: i64 = 3;

/// The clustering key of the row that counts the runs that were taken out.
pub(crate) fn counter() -> Values {
    key(IncarnationId::new([0; 16]))
}

/// The clustering key of a run.
pub(crate) fn key(incarnation: IncarnationId) -> Values {
    values_of![Bytes::copy_from_slice(incarnation.as_bytes())]
}

/// The first of a run's slots that may have logs.
pub(crate) fn first_slot(row: &Row) -> i64 {
    row.columns.get(FIRST_SLOT).and_then(Option::as_ref).and_then(Value::as_int).unwrap_or(1)
}

/// The row with another first slot.
pub(crate) fn with_first_slot(mut row: Row, slot: i64) -> Row {
    row.columns.resize(COLUMNS, None);
    row.columns[FIRST_SLOT] = Some(Value::Int(slot));
    row
}

/// The row of a run that has left in order, and whose journal ended with this entry.
pub(crate) fn with_told(mut row: Row, told: u64) -> Row {
    row.columns.resize(COLUMNS, None);
    row.columns[TOLD] = i64::try_from(told).ok().map(Value::Int);
    row
}

/// The registry as it stands.
///
/// # Errors
/// When the store can't be read.
pub async fn listed(store: &dyn Store, consistency: Consistency) -> Result<Listed, LogError> {
    let mut listed = Listed::default();
    for row in rows(store, consistency).await? {
        match (Member::from_row(&row), row.guards) {
            (Some(member), _) => listed.members.push(member),
            (None, Some((GONE, pruned))) if row.key == counter() => listed.pruned = pruned.cast_unsigned(),
            // On its way out; or of a newer version, or damaged.
            (None, _) => {}
        }
    }
    Ok(listed)
}

/// All rows: runs, those that are on their way out, and the one that counts.
///
/// # Errors
/// When the store can't be read.
pub(crate) async fn rows(store: &dyn Store, consistency: Consistency) -> Result<Vec<Row>, LogError> {
    Ok(polity_store::rows(store, &schema::MEMBERS, values_of![CLUSTER], Bounds::all(), usize::MAX, consistency).await?)
}
