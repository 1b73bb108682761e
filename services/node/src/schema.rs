//! `polity schema`: what a shared store's tables are, and making them before the first start of a new version.

use std::sync::Arc;

use polity_core::{SystemClock, SystemRandom};
use polity_platform::{
    config::{Config, StoreKind},
    lifecycle::exit,
};
use polity_store_scylla::{CqlConfig, CqlStore, OpenError, SchemaStatus};

use crate::{command::say, failure::Failure, store};

/// Says what the tables are, and changes nothing.
pub(crate) async fn status(config: &Config) -> Result<(), Failure> {
    let cql = shared(config)?;
    tell(&cql, &SchemaStatus::read(&cql).await?);
    Ok(())
}

/// Makes what is missing. Processes do that, too, when they start: this is for who wants it done before, or by somebody else.
pub(crate) async fn apply(config: &Config) -> Result<(), Failure> {
    let cql = shared(config)?;
    let before = SchemaStatus::read(&cql).await?;
    CqlStore::open(&cql, Arc::new(SystemClock::new()), &SystemRandom).await?;
    before.missing.iter().for_each(|made| say(&format!("made: {made}")));
    tell(&cql, &SchemaStatus::read(&cql).await?);
    Ok(())
}

fn shared(config: &Config) -> Result<CqlConfig, Failure> {
    if config.store.kind != StoreKind::Cql {
        return Err(Failure::new(exit::USAGE, "store.kind is not \"cql\": an embedded store has no schema to be made"));
    }
    store::cql(&config.store.cql)
}

fn tell(cql: &CqlConfig, status: &SchemaStatus) {
    say(&format!("server: {}", status.server));
    say(&format!("keyspace: {}", cql.keyspace));
    let stored = status.stored.map_or("none".to_owned(), |version| version.to_string());
    say(&format!("version: {stored} in the store, {} known to this program", status.known));
    say(&format!("consistency: {}", status.levels.map_or("not chosen yet", |levels| levels.name())));
    say(&match status.missing.as_slice() {
        [] => "missing: nothing".to_owned(),
        missing => format!("missing: {}", missing.join(", ")),
    });
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = if matches!(error, OpenError::Refused(_)) { exit::USAGE } else { exit::UNAVAILABLE };
        Self::new(code, error)
    }
}
