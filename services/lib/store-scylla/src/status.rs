//! What a store's schema is, told without changing it.

use scylla::client::session::Session;

use crate::{
    agreed,
    config::{Consistencies, CqlConfig},
    connect::{OpenError, session},
    keyspace,
    value::Columns,
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaStatus {
    /// What the servers are.
    pub server: String,
    /// The version of the tables in the store; none before the first start.
    pub stored: Option<i64>,
    /// The version that this program knows.
    pub known: i64,
    /// The levels that the cluster agreed on.
    pub levels: Option<Consistencies>,
    /// Tables and columns that this program uses and the keyspace lacks.
    pub missing: Vec<String>,
}

impl SchemaStatus {
    /// Asks the store.
    ///
    /// # Errors
    /// When it can't be reached, or isn't fit.
    pub async fn read(config: &CqlConfig) -> Result<Self, OpenError> {
        let session = session(config).await?;
        let server = keyspace::check_server(&session).await?;
        let missing = keyspace::missing(&session.get_cluster_state(), config);
        let stored = fact(&session, config, agreed::SCHEMA).await?;
        let levels = fact(&session, config, agreed::CONSISTENCY).await?;
        Ok(Self {
            server,
            stored: stored.as_deref().and_then(agreed::number),
            known: config.schema.version,
            levels: levels.as_deref().and_then(|name| std::str::from_utf8(name).ok()).and_then(Consistencies::of_name),
            missing: missing.into_iter().map(|missing| missing.what).collect(),
        })
    }
}

/// A fact about the store, if it is there.
async fn fact(session: &Session, config: &CqlConfig, name: &str) -> Result<Option<bytes::Bytes>, OpenError> {
    let state = session.get_cluster_state();
    let table = polity_store::schema::META.name;
    if state.get_keyspace(&config.keyspace).is_none_or(|keyspace| !keyspace.tables.contains_key(table)) {
        return Ok(None);
    }
    let not_ready = |error: &dyn std::fmt::Display| OpenError::NotReady(error.to_string());
    let statement = format!("SELECT value FROM {}.{table} WHERE name = ?", config.keyspace);
    let rows = session.query_unpaged(statement, (name,)).await.map_err(|error| not_ready(&error))?;
    let rows = rows.into_rows_result().map_err(|error| not_ready(&error))?;
    let row = rows.maybe_first_row::<Columns>().map_err(|error| not_ready(&error))?;
    let value = row.and_then(|Columns(columns)| columns.into_iter().next().flatten());
    Ok(value.as_ref().and_then(|value| value.as_blob()).and_then(agreed::value_of))
}
