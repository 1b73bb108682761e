//! The tables as CQL, from their descriptors: what `schema.cql` holds and a CQL store creates.
//!
//! ```text
//! cas, Absent    BEGIN BATCH INSERT INTO log (..) VALUES (..) IF NOT EXISTS; INSERT INTO log ..; APPLY BATCH
//! cas, Guards    BEGIN BATCH UPDATE log SET head_seq = ?, epoch = ?, value = ? WHERE .. IF head_seq = ? AND epoch = ?; .. APPLY BATCH
//!                (the conditional statement writes the guards that it expects if the row isn't among the changes)
//! DeleteRange    DELETE FROM one_time_keys WHERE .. AND idx >= ? AND idx <= ?, in the same batch
//! projection     INSERT INTO memberships (..) VALUES (..) USING TIMESTAMP ?      (the stamp; `value` is the packed row)
//! plain          INSERT INTO filters (..) VALUES (..) USING TTL ?                DELETE FROM filters WHERE ..
//! get            SELECT .. WHERE partition AND key                               (WRITETIME(value) is the stamp)
//! scan           SELECT .. WHERE partition AND (c1, c2) >= (?, ?) AND (c1) <= (?) ORDER BY c1 .., by pages
//! drop_partition DELETE FROM state_nodes WHERE partition
//! ```

use std::fmt::Write as _;

use crate::{
    schema,
    table::{Column, ColumnType, Direction, Kind, Table},
};

/// The statement that makes a table.
#[must_use]
pub fn create_table(table: &Table) -> String {
    let mut columns: Vec<String> = table.partition.iter().chain(table.clustering).map(declare).collect();
    columns.extend(table.guards.iter().flatten().map(|name| format!("{name} bigint")));
    columns.extend(table.columns.iter().map(declare));
    columns.push("value blob".to_owned());
    let names = |columns: &[Column]| columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let clustering = if table.clustering.is_empty() { String::new() } else { format!(", {}", names(table.clustering)) };
    let order: Vec<String> = match table.direction {
        Direction::Ascending => Vec::new(),
        Direction::Descending => table.clustering.iter().map(|column| format!("{} DESC", column.name)).collect(),
    };
    let order =
        if order.is_empty() { String::new() } else { format!("CLUSTERING ORDER BY ({}) AND ", order.join(", ")) };
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\n  {},\n  PRIMARY KEY (({}){clustering})\n) WITH {order}comment = '{}';\n",
        table.name,
        columns.join(",\n  "),
        names(table.partition),
        table.doc.replace('\'', "''"),
    )
}

/// The statements that make all tables, in the order of their numbers.
#[must_use]
pub fn create_all() -> String {
    let mut out = "-- Made from schema.rs; a test fails when it differs (UPDATE=1 writes it anew).\n".to_owned();
    for table in schema::ALL {
        let kind = match table.kind {
            Kind::Log => "log: conditional writes only",
            Kind::Projection => {
                "projection: the greatest stamp stays; value is the packed row, other columns are for operators"
            }
            Kind::Plain => "plain",
        };
        // Writing to a string can't fail.
        let _ = write!(out, "\n-- {} ({kind})\n{}", table.number, create_table(table));
    }
    out
}

/// A column as a table declares it.
#[must_use]
pub fn declare(column: &Column) -> String {
    let ty = match column.ty {
        ColumnType::Int => "bigint",
        ColumnType::Text => "text",
        ColumnType::Blob => "blob",
    };
    format!("{} {ty}", column.name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// <https://cassandra.apache.org/doc/latest/cassandra/developing/cql/appendices.html#appendix-A>
    const RESERVED: &[&str] = &[
        "add",
        "allow",
        "alter",
        "and",
        "apply",
        "asc",
        "authorize",
        "batch",
        "begin",
        "by",
        "columnfamily",
        "create",
        "default",
        "delete",
        "desc",
        "describe",
        "drop",
        "entries",
        "execute",
        "from",
        "full",
        "grant",
        "if",
        "in",
        "index",
        "infinity",
        "insert",
        "into",
        "is",
        "keyspace",
        "limit",
        "materialized",
        "mbean",
        "mbeans",
        "modify",
        "nan",
        "norecursive",
        "not",
        "null",
        "of",
        "on",
        "or",
        "order",
        "primary",
        "rename",
        "replace",
        "revoke",
        "schema",
        "select",
        "set",
        "table",
        "to",
        "token",
        "truncate",
        "unlogged",
        "unset",
        "update",
        "use",
        "using",
        "view",
        "where",
        "with",
    ];

    #[test]
    fn the_file_is_what_the_descriptors_say() {
        let path = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("schema.cql");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, create_all()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), create_all());
    }

    #[test]
    fn names_are_plain_and_unique_within_a_table() {
        for table in schema::ALL {
            let columns = table.partition.iter().chain(table.clustering).chain(table.columns).map(|column| column.name);
            let names: Vec<&str> = columns.chain(table.guards.into_iter().flatten()).chain(["value"]).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{}", table.name);
            for name in names.into_iter().chain([table.name]) {
                assert!(!RESERVED.contains(&name), "{name} would have to be quoted");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            }
        }
    }

    #[test]
    fn the_log_is_clustered_newest_first() {
        let log = create_table(&schema::LOG);
        assert!(
            log.contains("PRIMARY KEY ((tenant, log, bucket), seq)\n) WITH CLUSTERING ORDER BY (seq DESC) AND"),
            "{log}"
        );
    }
}
