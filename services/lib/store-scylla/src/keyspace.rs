//! The keyspace and its tables, made by whoever comes first.
//!
//! Tables are made `IF NOT EXISTS` under ids that follow from their names, so that two nodes which make one at the same moment make
//! the same one.

use std::collections::BTreeSet;

use polity_store::{Table, cql};
use scylla::{
    client::session::Session,
    cluster::{ClusterState, metadata::Strategy},
};

use crate::{config::CqlConfig, connect::OpenError, schema::Schema, value::Columns};

/// Answered by ScyllaDB only.
const SCYLLA_VERSION: &str = "SELECT version FROM system.versions WHERE key = 'local'";
/// The first version of ScyllaDB that takes conditional writes in keyspaces with tablets.
const TABLETS_WITH_LWT: (u32, u32) = (2025, 4);

/// The server or the keyspace isn't fit.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Conditional writes and tablets don't go together there.
    #[error(
        "ScyllaDB {0} takes no conditional writes in a keyspace with tablets: use 2025.4 or newer, or make the keyspace \
         {1} with tablets = {{'enabled': false}}"
    )]
    Tablets(String, String),
    /// Too old.
    #[error("{0} is not supported: use ScyllaDB 2025.1 or newer, or Apache Cassandra 5")]
    TooOld(String),
    /// The name would have to be quoted.
    #[error("{0:?} can't be a keyspace: use lower-case letters, digits and _")]
    Name(String),
    /// A mistyped name: nothing would ever be stored there.
    #[error("there is no datacentre {0:?}: the CQL cluster has {1}")]
    Datacenter(String, String),
    /// Nothing is stored where this process asks first.
    #[error("the keyspace has no copies in the datacentre {0:?}: it has some in {1}")]
    NoCopies(String, String),
    /// Made by a program that this one can't run beside.
    #[error("the store's schema can't be used by programs that don't know version {0} of it: use a newer version")]
    TooNew(i64),
}

/// Something that the keyspace lacks.
pub(crate) struct Missing {
    /// What it is.
    pub(crate) what: String,
    /// What makes it.
    statement: String,
}

/// What the servers are. Refuses those that can't do what is needed.
pub(crate) async fn check_server(session: &Session) -> Result<String, OpenError> {
    let scylla = text(session, SCYLLA_VERSION).await;
    if let Some(version) = scylla {
        return if numbers(&version) < (2025, 1) {
            Err(Refused::TooOld(format!("ScyllaDB {version}")).into())
        } else {
            Ok(format!("ScyllaDB {version}"))
        };
    }
    let version = text(session, "SELECT release_version FROM system.local WHERE key = 'local'").await;
    let version = version.ok_or_else(|| OpenError::NotReady("the server doesn't say what it is".to_owned()))?;
    if numbers(&version) < (4, 1) {
        return Err(Refused::TooOld(format!("Apache Cassandra {version}")).into());
    }
    Ok(format!("Apache Cassandra {version}"))
}

/// Makes the keyspace and whatever is missing in it; what that was.
pub(crate) async fn make(session: &Session, config: &CqlConfig) -> Result<Vec<String>, OpenError> {
    let keyspace = &config.keyspace;
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if keyspace.is_empty() || !plain(keyspace) || !keyspace.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Refused::Name(keyspace.clone()).into());
    }
    let mut made = Vec::new();
    if session.get_cluster_state().get_keyspace(keyspace).is_none() {
        make_keyspace(session, config).await?;
        made.push(format!("keyspace {keyspace}"));
    }
    check_copies(session, config)?;
    check_tablets(session, keyspace).await?;
    let mut failed = None;
    for Missing { what, statement } in missing(&session.get_cluster_state(), config) {
        // Of processes that start at once several may add a column: all but one are told that it is there.
        match run(session, statement).await {
            Ok(()) => made.push(what),
            Err(error) => failed = Some(error),
        }
    }
    let Some(error) = failed else { return Ok(made) };
    refresh(session).await?;
    if missing(&session.get_cluster_state(), config).is_empty() { Ok(made) } else { Err(error) }
}

async fn make_keyspace(session: &Session, config: &CqlConfig) -> Result<(), OpenError> {
    let state = session.get_cluster_state();
    let there: BTreeSet<&str> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    if let Some(name) = config.replication.keys().find(|name| !there.contains(name.as_str())) {
        let there: Vec<&str> = there.into_iter().collect();
        return Err(Refused::Datacenter(name.clone(), there.join(", ")).into());
    }
    let replicas: Vec<String> =
        config.replication.iter().map(|(name, count)| format!("'{}': {count}", name.replace('\'', "''"))).collect();
    let statement = format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', {}}}",
        config.keyspace,
        replicas.join(", ")
    );
    run(session, statement).await?;
    refresh(session).await
}

/// What tables and columns a keyspace lacks that this program uses.
pub(crate) fn missing(state: &ClusterState, config: &CqlConfig) -> Vec<Missing> {
    let CqlConfig { keyspace, schema: Schema { tables, .. }, .. } = config;
    let there = state.get_keyspace(keyspace);
    let mut missing = Vec::new();
    for table in *tables {
        let Some(known) = there.and_then(|there| there.tables.get(table.name)) else {
            let what = format!("table {}", table.name);
            missing.push(Missing { what, statement: create(keyspace, table) });
            continue;
        };
        for column in table.columns.iter().filter(|column| !known.columns.contains_key(column.name)) {
            missing.push(Missing {
                what: format!("column {} of table {}", column.name, table.name),
                statement: format!("ALTER TABLE {keyspace}.{} ADD {}", table.name, cql::declare(column)),
            });
        }
    }
    missing
}

/// Whether anything is stored in the datacentre that is asked first.
fn check_copies(session: &Session, config: &CqlConfig) -> Result<(), OpenError> {
    let state = session.get_cluster_state();
    let strategy = state.get_keyspace(&config.keyspace).map(|keyspace| &keyspace.strategy);
    let Some(Strategy::NetworkTopologyStrategy { datacenter_repfactors: copies, .. }) = strategy else {
        return Ok(());
    };
    if copies.get(&config.local_datacenter).is_some_and(|copies| *copies > 0) {
        return Ok(());
    }
    let mut there: Vec<&str> = copies.keys().map(String::as_str).collect();
    there.sort_unstable();
    Err(Refused::NoCopies(config.local_datacenter.clone(), there.join(", ")).into())
}

async fn refresh(session: &Session) -> Result<(), OpenError> {
    session.refresh_metadata().await.map_err(|error| OpenError::NotReady(error.to_string()))
}

/// The statement that makes a table of a keyspace, under an id that follows from both names.
fn create(keyspace: &str, table: &Table) -> String {
    let hash = blake3::hash(format!("{keyspace}.{}", table.name).as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    // A time-based one by its form: servers read a time out of table ids.
    id[6] = id[6] & 0x0f | 0x10;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let made = cql::create_table(table).replacen(
        &format!("EXISTS {} (", table.name),
        &format!("EXISTS {keyspace}.{} (", table.name),
        1,
    );
    format!("{} AND id = '{id}'", made.trim_end().trim_end_matches(';'))
}

async fn check_tablets(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let Some(version) = text(session, SCYLLA_VERSION).await else {
        return Ok(());
    };
    let query = format!(
        "SELECT keyspace_name FROM system_schema.scylla_keyspaces WHERE keyspace_name = '{keyspace}' AND initial_tablets >= 0 \
         ALLOW FILTERING"
    );
    if numbers(&version) < TABLETS_WITH_LWT && text(session, &query).await.is_some() {
        return Err(Refused::Tablets(version, keyspace.to_owned()).into());
    }
    Ok(())
}

async fn run(session: &Session, statement: String) -> Result<(), OpenError> {
    session.query_unpaged(statement, ()).await.map(drop).map_err(|error| OpenError::NotReady(error.to_string()))
}

/// The first column of the first row, where the statement means something to this server.
async fn text(session: &Session, statement: &str) -> Option<String> {
    let rows = session.query_unpaged(statement, ()).await.ok()?.into_rows_result().ok()?;
    let Columns(columns) = rows.maybe_first_row().ok()??;
    columns.into_iter().next()??.as_text().map(str::to_owned)
}

/// The first two numbers of a version: `2025.4.1` is (2025, 4).
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use polity_store::schema;

    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("2025.10.0") > TABLETS_WITH_LWT && numbers("2025.3.2-rc1") < TABLETS_WITH_LWT);
        assert_eq!(numbers("5.0.9"), (5, 0));
    }

    #[test]
    fn a_table_is_made_under_the_same_id_by_everybody() {
        let statement = create("k", &schema::META);
        assert!(
            statement.starts_with("CREATE TABLE IF NOT EXISTS k.meta (") && !statement.contains(';'),
            "{statement}"
        );
        assert_eq!(statement, create("k", &schema::META));
        assert_ne!(statement, create("j", &schema::META));
    }
}
