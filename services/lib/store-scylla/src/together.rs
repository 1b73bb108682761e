//! Which writes go together: those of one kind to one node, some few at a time. Each is still a write of its own to one partition,
//! and may land without the others; but they share a request, and a node takes ten rows in one request for a third of what they
//! cost alone. (A node has all its rows of such a request itself: it hands none on, beyond what it would for each alone.)

use std::collections::HashMap;

use polity_store::{Kind, Value, Write};
use scylla::{client::session::Session, cluster::ClusterState};

use crate::value::Bound;

/// Servers warn of a request with more partitions, as they come configured,
const ROWS: usize = 10;
/// or with more bytes: 5 KiB, here without what the protocol adds.
const BYTES: usize = 4 * 1024;

/// What may share a request: the node that is asked, and whether it may be asked twice.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    node: Option<u128>,
    repeatable: bool,
}

/// Writes as they are sent: each part in one request, in no order that matters.
pub(crate) fn together(session: &Session, keyspace: &str, writes: Vec<Write>) -> Vec<Vec<Write>> {
    if writes.len() < 2 {
        return vec![writes];
    }
    let nodes = session.get_cluster_state();
    in_parts(writes, |write| node_of(&nodes, keyspace, write))
}

fn in_parts(writes: Vec<Write>, node_of: impl Fn(&Write) -> Option<u128>) -> Vec<Vec<Write>> {
    let mut full = Vec::new();
    let mut open: HashMap<Way, (usize, Vec<Write>)> = HashMap::new();
    for write in writes {
        let way = Way { node: node_of(&write), repeatable: write.table.kind == Kind::Projection };
        let bytes = bytes_of(&write);
        let (taken, part) = open.entry(way).or_default();
        if part.len() == ROWS || *taken + bytes > BYTES {
            full.extend(Some(std::mem::take(part)).filter(|part| !part.is_empty()));
            *taken = 0;
        }
        *taken += bytes;
        part.push(write);
    }
    full.extend(open.into_values().map(|(_, part)| part));
    full
}

/// The first node that has a row's partition; `None` while that isn't known.
fn node_of(nodes: &ClusterState, keyspace: &str, write: &Write) -> Option<u128> {
    let partition: Vec<Bound<'_>> = write.partition.iter().map(Bound::Value).collect();
    let token = nodes.compute_token(keyspace, write.table.name, &partition).ok()?;
    let replicas = nodes.get_token_endpoints(keyspace, write.table.name, token);
    replicas.first().map(|(node, _)| node.host_id.as_u128())
}

fn bytes_of(write: &Write) -> usize {
    let row = &write.row;
    let columns = row.columns.iter().flatten();
    let values = write.partition.iter().chain(&row.key).chain(columns);
    row.value.len() + values.map(size).sum::<usize>()
}

fn size(value: &Value) -> usize {
    match value {
        Value::Int(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
    }
}

#[cfg(test)]
mod tests {
    use polity_store::{Row, Values, WriteKind, schema, values_of};

    use super::*;

    fn write(user: &str, bytes: usize) -> Write {
        let row = Row::new(Values::new(), vec![0; bytes].into());
        let (table, partition) = (&schema::FILTERS, values_of![1_i64, user]);
        Write { table, partition, row, kind: WriteKind::Plain { ttl_s: 0 } }
    }

    #[test]
    fn requests_have_few_rows_of_one_node_and_few_bytes() {
        let node_of = |write: &Write| match &write.partition[1] {
            Value::Text(user) => Some(u128::from(user.starts_with('a'))),
            _ => None,
        };
        let users = (0..40).map(|n| format!("{}{n}", if n % 2 == 0 { 'a' } else { 'b' }));
        let parts = in_parts(users.map(|user| write(&user, 1)).collect(), node_of);
        let mut sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [10, 10, 10, 10]);
        assert!(parts.iter().all(|part| part.iter().all(|write| node_of(write) == node_of(&part[0]))));

        let parts = in_parts((0..3).map(|_| write("a", 3_000)).collect(), node_of);
        assert_eq!(parts.len(), 3, "bytes count, too");
        assert_eq!(in_parts(vec![write("a", 100_000)], node_of).len(), 1, "a large row goes alone");
    }
}
