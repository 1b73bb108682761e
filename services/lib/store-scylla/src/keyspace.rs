//! The keyspace and its tables, made by whoever comes first, and what all processes agree on.
//!
//! Tables are made `IF NOT EXISTS` under ids that follow from their names, so that two nodes which make one at the same moment make
//! the same one. The schema is only ever added to: this version of the program runs on a schema of its own version or a newer one.

use bytes::Bytes;
use polity_core::{IncarnationId, Random};
use polity_store::{
    Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Table, Values, cql, schema, values_of,
};
use scylla::client::session::Session;

use crate::{
    config::{Consistencies, CqlConfig},
    connect::{CqlStore, OpenError},
    value::Columns,
};

/// The version of the tables that this program makes.
pub const SCHEMA_VERSION: i64 = 1;
const FORMAT: u8 = 1;
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
}

/// What all processes of a cluster agree on.
pub(crate) struct Agreed {
    pub(crate) incarnation: IncarnationId,
    pub(crate) levels: Consistencies,
}

/// Refuses servers that can't do what is needed, and says what they are.
pub(crate) async fn check_server(session: &Session) -> Result<(), OpenError> {
    let scylla = text(session, "SELECT version FROM system.versions WHERE key = 'local'").await;
    if let Some(version) = scylla {
        tracing::info!(%version, "ScyllaDB");
        if numbers(&version) < (2025, 1) {
            return Err(Refused::TooOld(format!("ScyllaDB {version}")).into());
        }
        return Ok(());
    }
    let version = text(session, "SELECT release_version FROM system.local WHERE key = 'local'").await;
    let version = version.ok_or_else(|| OpenError::NotReady("the server doesn't say what it is".to_owned()))?;
    tracing::info!(%version, "Apache Cassandra");
    if numbers(&version) < (4, 1) {
        return Err(Refused::TooOld(format!("Apache Cassandra {version}")).into());
    }
    Ok(())
}

/// Makes the keyspace and the tables that are missing.
pub(crate) async fn make(session: &Session, config: &CqlConfig) -> Result<(), OpenError> {
    let keyspace = &config.keyspace;
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if keyspace.is_empty() || !plain(keyspace) || !keyspace.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Refused::Name(keyspace.clone()).into());
    }
    let replicas: Vec<String> =
        config.replication.iter().map(|(name, count)| format!("'{}': {count}", name.replace('\'', "''"))).collect();
    run(
        session,
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', {}}}",
            replicas.join(", ")
        ),
    )
    .await?;
    check_tablets(session, keyspace).await?;
    let known = session.get_cluster_state();
    let there =
        |table: &Table| known.get_keyspace(keyspace).is_some_and(|keyspace| keyspace.tables.contains_key(table.name));
    for table in schema::ALL.iter().filter(|table| !there(table)) {
        run(session, create(keyspace, table)).await?;
    }
    Ok(())
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
    let Some(version) = text(session, "SELECT version FROM system.versions WHERE key = 'local'").await else {
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

/// What the first process of this store chose: its incarnation, the levels. Proposes both.
pub(crate) async fn agree(
    store: &CqlStore,
    proposed: Consistencies,
    random: &dyn Random,
) -> Result<Agreed, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(schema::META.name, what);
    let incarnation = fact(store, "incarnation", IncarnationId::new(random.bytes()).as_bytes()).await?;
    let levels = fact(store, "consistency", proposed.name().as_bytes()).await?;
    fact(store, "schema", &SCHEMA_VERSION.to_be_bytes()).await?;
    let levels = std::str::from_utf8(&levels).ok().and_then(Consistencies::of_name);
    Ok(Agreed {
        incarnation: IncarnationId::from_slice(&incarnation).map_err(|_| corrupt("the store's incarnation"))?,
        levels: levels.ok_or_else(|| corrupt("the store's consistency"))?,
    })
}

/// A fact about the store, made now if nobody made it.
async fn fact(store: &CqlStore, name: &str, proposed: &[u8]) -> Result<Bytes, StoreError> {
    let corrupt = || StoreError::corrupt(schema::META.name, format!("the fact {name}"));
    loop {
        let row = store.get(&schema::META, values_of![name], Values::new(), Consistency::Serial).await?;
        if let Some(row) = row {
            let known = row.value.first() == Some(&FORMAT);
            return if known { Ok(row.value.slice(1..)) } else { Err(corrupt()) };
        }
        let value: Bytes = [&[FORMAT][..], proposed].concat().into();
        let condition = Condition { row: Values::new(), expect: Expect::Absent };
        let change = Change::Put(Row::new(Values::new(), value).guarded(SCHEMA_VERSION, 0));
        match store.cas(&schema::META, values_of![name], condition, vec![change]).await {
            Ok(Cas::Applied | Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
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
