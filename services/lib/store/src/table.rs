//! Tables as data.

/// What kind of table it is, which says how it may be written. The kinds are never mixed: a plain write beside
/// conditional ones can lose to a Paxos timestamp, and a clock has no place in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Conditional writes only ([`crate::Store::cas`]), no TTL.
    Log,
    /// Plain writes whose timestamp comes from the log ([`crate::WriteKind::Projection`]): the greatest one stays,
    /// in whatever order they arrive. No deletes: absence is a value.
    Projection,
    /// No order that matters; a TTL and deletes are allowed ([`crate::WriteKind::Plain`]).
    Plain,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// 64 bits, signed.
    Int,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
}

/// A column: its name and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its name in CQL.
    pub name: &'static str,
    /// Its type.
    pub ty: ColumnType,
}

/// A column of numbers.
#[must_use]
pub(crate) const fn int(name: &'static str) -> Column {
    Column { name, ty: ColumnType::Int }
}

/// A column of texts.
#[must_use]
pub(crate) const fn text(name: &'static str) -> Column {
    Column { name, ty: ColumnType::Text }
}

/// A column of bytes.
#[must_use]
pub(crate) const fn blob(name: &'static str) -> Column {
    Column { name, ty: ColumnType::Blob }
}

/// In which direction the rows of a partition are stored (all clustering columns alike).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The smallest first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// A table: `PRIMARY KEY ((partition...), clustering...)`, two guard columns where it is of the log kind, index columns that
/// an operator can read, and one opaque `value`.
#[derive(Debug)]
pub struct Table {
    /// Its name in CQL.
    pub name: &'static str,
    /// A small number that never changes and is never used again: the prefix of its keys in an embedded store.
    pub number: u8,
    /// How it may be written.
    pub kind: Kind,
    /// The columns of the partition key.
    pub partition: &'static [Column],
    /// The clustering columns; may be empty (one row a partition).
    pub clustering: &'static [Column],
    /// The stored direction of the clustering columns.
    pub direction: Direction,
    /// The names of the two numbers on which conditions are put; log kind only.
    pub guards: Option<[&'static str; 2]>,
    /// Columns beside the value, for an operator and for de-duplication. Any may be null.
    pub columns: &'static [Column],
    /// What it holds, for `DESCRIBE` and for the reader of this code.
    pub doc: &'static str,
}

impl Table {
    /// Whether each partition belongs to one log, by its id, which no other log ever has: then nothing in it outlives that log's purge.
    #[must_use]
    pub fn is_of_one_log(&self) -> bool {
        self.partition.iter().any(|column| column.name == "log")
    }
}
