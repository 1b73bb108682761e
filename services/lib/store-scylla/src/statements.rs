//! The statements of each table, as `polity_store::cql` describes them, prepared when they are first used.

use std::{collections::HashMap, ops::Bound, sync::Arc};

use parking_lot::RwLock;
use polity_store::{Bounds, Consistency, Kind, Table};
use scylla::{client::session::Session, errors::PrepareError, statement::prepared::PreparedStatement};

use crate::config::Consistencies;

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// Writes a row whole: in a conditional batch, or plainly.
    Insert,
    /// The same, if the row isn't there.
    InsertIfAbsent,
    /// Writes a row with guards whole, if the guards are as expected.
    UpdateIf,
    /// Writes the guards only, if they are as expected.
    GuardsIf,
    /// Deletes rows by a range of the first clustering column.
    DeleteRange,
    /// Deletes one row.
    Delete,
    /// Deletes a partition.
    DeletePartition,
    /// Reads one row.
    Get(Level),
    /// Reads rows of a partition.
    Scan(Level, Range),
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    Quorum,
    Serial,
}

/// Which rows a scan reads: how many columns each bound names (0: none), and whether it excludes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    from: (usize, bool),
    to: (usize, bool),
    reverse: bool,
}

/// All statements that this process has prepared.
pub(crate) struct Statements {
    keyspace: String,
    levels: Consistencies,
    prepared: RwLock<HashMap<(u8, Shape), Arc<PreparedStatement>>>,
}

// === impl Level ===

impl From<Consistency> for Level {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Quorum => Self::Quorum,
            Consistency::Serial => Self::Serial,
        }
    }
}

// === impl Range ===

impl From<&Bounds> for Range {
    fn from(bounds: &Bounds) -> Self {
        let side = |bound: &Bound<polity_store::Values>| match bound {
            Bound::Included(values) => (values.len(), false),
            Bound::Excluded(values) => (values.len(), true),
            Bound::Unbounded => (0, false),
        };
        Self { from: side(&bounds.from), to: side(&bounds.to), reverse: bounds.reverse }
    }
}

// === impl Statements ===

impl Statements {
    pub(crate) fn new(keyspace: &str, levels: Consistencies) -> Self {
        Self { keyspace: keyspace.to_owned(), levels, prepared: RwLock::default() }
    }

    /// A table's statement, prepared now if it wasn't.
    pub(crate) async fn get(
        &self,
        session: &Session,
        table: &'static Table,
        shape: Shape,
    ) -> Result<Arc<PreparedStatement>, PrepareError> {
        let name = (table.number, shape);
        if let Some(statement) = self.prepared.read().get(&name) {
            return Ok(Arc::clone(statement));
        }
        let mut statement = session.prepare(text(&self.keyspace, table, shape)).await?;
        let level = match shape {
            Shape::Get(Level::Serial) | Shape::Scan(Level::Serial, _) => self.levels.serial_read(),
            _ => self.levels.quorum(),
        };
        statement.set_consistency(level);
        statement.set_serial_consistency(Some(self.levels.serial()));
        // Repeating a projection changes nothing, nor does a read. A serial read takes part in Paxos: not twice at once.
        let repeatable = match shape {
            Shape::Get(level) | Shape::Scan(level, _) => level == Level::Quorum,
            _ => table.kind == Kind::Projection,
        };
        statement.set_is_idempotent(repeatable);
        let statement = Arc::new(statement);
        self.prepared.write().insert(name, Arc::clone(&statement));
        Ok(statement)
    }
}

fn text(keyspace: &str, table: &Table, shape: Shape) -> String {
    let name = format!("{keyspace}.{}", table.name);
    let partition = equals(table.partition.iter().map(|column| column.name));
    let key = equals(table.partition.iter().chain(table.clustering).map(|column| column.name));
    match shape {
        Shape::Insert | Shape::InsertIfAbsent => {
            let columns = written(table);
            let marks = vec!["?"; columns.len()].join(", ");
            let using = match (shape, table.kind) {
                (Shape::InsertIfAbsent, _) => " IF NOT EXISTS",
                (_, Kind::Log) => "",
                (_, Kind::Projection) => " USING TIMESTAMP ?",
                (_, Kind::Plain) => " USING TIMESTAMP ? AND TTL ?",
            };
            format!("INSERT INTO {name} ({}) VALUES ({marks}){using}", columns.join(", "))
        }
        Shape::UpdateIf => {
            let set: Vec<&str> = guards(table).chain(data(table)).collect();
            format!("UPDATE {name} SET {} WHERE {key} IF {}", commas(set), equals(guards(table)))
        }
        Shape::GuardsIf => {
            format!("UPDATE {name} SET {} WHERE {key} IF {}", commas(guards(table)), equals(guards(table)))
        }
        Shape::DeleteRange => {
            let first = table.clustering.first().map_or("", |column| column.name);
            format!("DELETE FROM {name} WHERE {partition} AND {first} >= ? AND {first} <= ?")
        }
        Shape::Delete => format!("DELETE FROM {name} USING TIMESTAMP ? WHERE {key}"),
        Shape::DeletePartition => format!("DELETE FROM {name} USING TIMESTAMP ? WHERE {partition}"),
        Shape::Get(_) => format!("SELECT {} FROM {name} WHERE {key}", selected(table)),
        Shape::Scan(_, range) => {
            let bounds = bound(table, range.from, ">") + &bound(table, range.to, "<");
            format!("SELECT {} FROM {name} WHERE {partition}{bounds}{}", selected(table), order(table, range))
        }
    }
}

fn bound(table: &Table, (columns, excluded): (usize, bool), sign: &str) -> String {
    if columns == 0 {
        return String::new();
    }
    let names: Vec<&str> = table.clustering[..columns].iter().map(|column| column.name).collect();
    let equal = if excluded { "" } else { "=" };
    format!(" AND ({}) {sign}{equal} ({})", names.join(", "), vec!["?"; columns].join(", "))
}

fn order(table: &Table, range: Range) -> String {
    let direction = if range.reverse { "DESC" } else { "ASC" };
    let columns: Vec<String> = table.clustering.iter().map(|column| format!("{} {direction}", column.name)).collect();
    if columns.is_empty() { String::new() } else { format!(" ORDER BY {}", columns.join(", ")) }
}

/// The columns that an insert names, in order.
fn written(table: &Table) -> Vec<&'static str> {
    let key = table.partition.iter().chain(table.clustering).map(|column| column.name);
    key.chain(guards(table)).chain(data(table)).collect()
}

/// What a read gives: clustering key, guards, columns, value, and the stamp of a projection.
fn selected(table: &Table) -> String {
    let key = table.clustering.iter().map(|column| column.name);
    let stamp = (table.kind == Kind::Projection).then_some("WRITETIME(value)");
    key.chain(guards(table)).chain(data(table)).chain(stamp).collect::<Vec<_>>().join(", ")
}

fn guards(table: &Table) -> impl Iterator<Item = &'static str> + use<> {
    table.guards.into_iter().flatten()
}

fn data(table: &Table) -> impl Iterator<Item = &'static str> + use<> {
    table.columns.iter().map(|column| column.name).chain(["value"])
}

fn equals<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(" AND ")
}

fn commas<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use polity_store::{schema, values_of};

    use super::*;

    #[test]
    fn statements_read_as_they_are_documented() {
        let said = |table, shape| text("k", table, shape);
        assert_eq!(
            said(&schema::ONE_TIME_KEYS, Shape::GuardsIf),
            "UPDATE k.one_time_keys SET next_claim = ?, next_upload = ? WHERE tenant = ? AND user_id = ? AND device = ? AND \
             algorithm = ? AND idx = ? IF next_claim = ? AND next_upload = ?"
        );
        assert_eq!(
            said(&schema::FORGOTTEN, Shape::Insert),
            "INSERT INTO k.forgotten (tenant, user_id, room_id, value) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
        );
        let bounds =
            Bounds { from: Bound::Excluded(values_of!["a", "b"]), to: Bound::Included(values_of!["a"]), reverse: true };
        assert_eq!(
            said(&schema::USER_RECORD, Shape::Scan(Level::Quorum, Range::from(&bounds))),
            "SELECT kind, scope, key, value, WRITETIME(value) FROM k.user_record WHERE tenant = ? AND user_id = ? AND (kind, \
             scope) > (?, ?) AND (kind) <= (?) ORDER BY kind DESC, scope DESC, key DESC"
        );
    }
}
