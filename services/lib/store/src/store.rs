//! The six operations.

use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;
use polity_core::{IncarnationId, Stamp};

use crate::{StoreError, Table, Values};

/// A row as it is read or (without stamp) written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The clustering columns.
    pub key: Values,
    /// The guard columns, on the rows of a log-kind table that have them.
    pub guards: Option<(i64, i64)>,
    /// The index columns, in the table's order. Nulls at the end are left out (a store gives rows back without them).
    pub columns: Vec<Option<crate::Value>>,
    /// The opaque value: begins with a format byte. Empty means: none.
    pub value: Bytes,
    /// The stamp of a projection row; `None` elsewhere.
    pub stamp: Option<Stamp>,
}

impl Row {
    /// A row of key and value only.
    #[must_use]
    pub fn new(key: Values, value: Bytes) -> Self {
        Self { key, guards: None, columns: Vec::new(), value, stamp: None }
    }

    /// The same row with guards.
    #[must_use]
    pub fn guarded(mut self, first: i64, second: i64) -> Self {
        self.guards = Some((first, second));
        self
    }

    /// The same row with index columns.
    #[must_use]
    pub fn with_columns(mut self, columns: Vec<Option<crate::Value>>) -> Self {
        self.columns = columns;
        self
    }

    /// How many bytes of payload it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.value.len()
            + self.key.iter().map(crate::Value::size).sum::<usize>()
            + self.columns.iter().flatten().map(crate::Value::size).sum::<usize>()
    }
}

/// What must hold of one row of the partition for a conditional write to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The row, by its clustering columns.
    pub row: Values,
    /// What must hold of it.
    pub expect: Expect,
}

/// See [`Condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The row doesn't exist: `IF NOT EXISTS`. The write must make it.
    Absent,
    /// The row exists and both guard columns have these values: `IF a = ? AND b = ?`.
    Guards(i64, i64),
}

/// One change of a conditional write; all of a write are applied, or none. No row is changed twice in one write, and none lies in a range
/// that the same write deletes: all changes of a write bear one timestamp, under which a deletion wins.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes the row whole: columns and guards that it doesn't have become null. A row without guards is written once (or again with the
    /// same columns): a store may leave alone the columns that it doesn't have.
    Put(Row),
    /// Deletes the rows with `first <= key <= last` (by the first clustering column, in ascending sense).
    DeleteRange {
        /// The lowest key that goes.
        first: crate::Value,
        /// The highest key that goes.
        last: crate::Value,
    },
}

/// The known outcome of a conditional write. An unknown one is [`StoreError::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once an append and taken apart at once")]
pub enum Cas {
    /// The condition held; everything was written.
    Applied,
    /// The condition didn't hold; nothing was written. The row as it was then or (a store may have to read it) later; `None`: absent.
    Refused(Option<Row>),
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// A quorum: sees every acknowledged write.
    Quorum,
    /// Settles conditional writes under way first. It does **not** stop one that hasn't begun: only a fence does.
    Serial,
}

/// What an answer may rest on once the write has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk, or on a quorum: an acknowledgement rests on it.
    Acknowledged,
    /// Can be derived again from the log: may be lost in a crash as long as everything written after it is lost, too. (What says that
    /// rows are projected is written after them, in another partition: a store that could keep the one and lose the other must
    /// treat this as [`Durability::Acknowledged`].)
    Rebuildable,
    /// A plain row that something written after it names: answers rest on that. It stands before whatever is written once this has
    /// returned, is lost in a crash only with it, and is seen by reads when that is, at the latest. (A store that doesn't keep all
    /// writes in one order treats this as [`Durability::Acknowledged`].)
    Ahead,
}

/// How a plain write orders itself against others of the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    /// In a projection table: the greatest stamp stays; of equal stamps the greater row, in the order of [`crate::packed`]: by its value
    /// first. `USING TIMESTAMP`.
    Projection(Stamp),
    /// In a plain table: of this process's writes, the last one stays. `ttl_s` 0 means for ever (also if the row had a time before).
    Plain {
        /// Seconds until the row disappears by itself, at most [`crate::check::TTL_MAX_S`]; early or late by a second or so.
        ttl_s: u32,
    },
    /// In a plain table: the row goes.
    Delete,
}

/// A write without condition, of one row.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table.
    pub table: &'static Table,
    /// Its partition key.
    pub partition: Values,
    /// The row (for [`WriteKind::Delete`] only its key counts).
    pub row: Row,
    /// How it is ordered.
    pub kind: WriteKind,
}

/// Which rows of a partition: bounds on the clustering columns, in the ascending sense whatever the stored direction. A bound
/// may name fewer columns than the table has: it then stands for all rows with that beginning. Numbers are ordered as numbers, texts and
/// blobs by their bytes. Bounds that cross contain nothing.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Where to begin.
    pub from: Bound<Values>,
    /// Where to end.
    pub to: Bound<Values>,
    /// Whether the greatest row comes first.
    pub reverse: bool,
}

impl Bounds {
    /// Everything, smallest first.
    #[must_use]
    pub fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded, reverse: false }
    }

    /// All rows whose clustering columns begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Values) -> Self {
        Self { from: Bound::Included(prefix.clone()), to: Bound::Included(prefix), reverse: false }
    }

    /// The same rows, greatest first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reverse = true;
        self
    }
}

/// Some rows of a partition.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Whether there may be further ones: go on after the last row. Never set without a row.
    pub more: bool,
}

/// A store. Object-safe; every method is one write or one bounded read of one partition ([`Store::put`] takes several rows,
/// each of which is a write of its own: they land in any order, or only some). How each is said in CQL: [`crate::cql`].
///
/// Every method fails with [`StoreError::Misuse`] and [`StoreError::TooLarge`] where [`crate::check`] says so, before anything is done.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Which life of this store it is: another one after a restore from backup.
    fn incarnation(&self) -> IncarnationId;

    /// A conditional write to one partition of a log-kind table: `changes` are applied at once if `condition` holds.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when it may land, now or later. Any other: nothing was written.
    async fn cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError>;

    /// Writes rows of projection and plain tables. When it returns, all of them are as durable as asked for.
    ///
    /// # Errors
    /// Some of them may have landed: all such writes may be repeated.
    async fn put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError>;

    /// One row.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn get(
        &self,
        table: &'static Table,
        partition: Values,
        key: Values,
        consistency: Consistency,
    ) -> Result<Option<Row>, StoreError>;

    /// At most `limit` rows (at least 1) of one partition, and at most some MiB of them: then `more` is set, too.
    ///
    /// # Errors
    /// As for [`Store::get`].
    async fn scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError>;

    /// Drops a whole partition of a log or plain table, or of a projection of one log ([`Table::is_of_one_log`]): for purges, of what
    /// nobody ever writes again. (Not of other projections: the deletion would bear the clock's time, above every stamp.)
    ///
    /// # Errors
    /// It may or may not be gone: may be repeated.
    async fn drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError>;
}
