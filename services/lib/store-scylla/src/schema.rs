//! The tables that a program uses, and their version.
//!
//! A version has all that the ones before it had, and more: tables, or columns at a table's end. Whoever starts makes what his own version
//! has and the keyspace lacks, whatever version that is at, and says so in the store; programs of the version before go on beside him, and may
//! be started again. So there are no steps to go through in order, and nothing to undo.
//!
//! Who knows a column reads null where nobody has written it, also from rows that were there before. What an older program writes:
//!
//! - A projection's row is one cell, its columns in it: written by an older program, the row is without the column.
//! - Other rows are a cell a column, and an older program leaves alone the one that it doesn't know. A row that is written
//!   again by programs of both versions (a head, an entry of `members`) can therefore hold a column that belongs to the row
//!   before it. Such a column is to be written once all processes know it (`members` tells their versions), or to be told by the
//!   value's format.

use polity_store::{Table, schema};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Its version.
    pub version: i64,
    /// All tables of that version.
    pub tables: &'static [&'static Table],
}

impl Schema {
    /// What this program uses.
    pub const OWN: Self = Self { version: 1, tables: schema::ALL };
}
