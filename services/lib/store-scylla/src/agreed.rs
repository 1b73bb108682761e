//! What all processes of a cluster agree on: kept in the store, chosen by whoever comes first.

use bytes::Bytes;
use polity_core::{IncarnationId, Random};
use polity_store::{
    Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Values, life, schema, values_of,
};

use crate::{
    config::Consistencies,
    connect::{CqlStore, OpenError},
    keyspace::Refused,
};

const FORMAT: u8 = 1;
/// The version of the tables that were made.
pub(crate) const SCHEMA: &str = "schema";
/// The oldest version that a program may know to be let in.
const OLDEST: &str = "schema_oldest";
/// How the levels of a cluster are called.
pub(crate) const CONSISTENCY: &str = "consistency";

/// See the module.
pub(crate) struct Agreed {
    pub(crate) incarnation: IncarnationId,
    pub(crate) levels: Consistencies,
}

/// What the first process of this store chose: its incarnation, the levels. Proposes both, and says that the tables of this program's
/// version are there.
pub(crate) async fn agree(store: &CqlStore, proposed: Consistencies, random: &dyn Random) -> Result<Agreed, OpenError> {
    let not_ready = |error: StoreError| OpenError::NotReady(error.to_string());
    let corrupt = |what: &str| not_ready(StoreError::corrupt(schema::META.name, what));
    let incarnation = fact(store, life::LIFE, IncarnationId::new(random.bytes()).as_bytes()).await;
    let levels = fact(store, CONSISTENCY, proposed.name().as_bytes()).await.map_err(not_ready)?;
    let oldest = known(store, OLDEST).await.map_err(not_ready)?.as_deref().and_then(number).unwrap_or(0);
    if oldest > store.schema.version {
        return Err(Refused::TooNew(oldest).into());
    }
    raise(store).await.map_err(not_ready)?;
    let levels = std::str::from_utf8(&levels).ok().and_then(Consistencies::of_name);
    Ok(Agreed {
        incarnation: IncarnationId::from_slice(&incarnation.map_err(not_ready)?)
            .map_err(|_| corrupt("the store's incarnation"))?,
        levels: levels.ok_or_else(|| corrupt("the store's consistency"))?,
    })
}

/// A version as a fact holds it.
pub(crate) fn number(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Says that the tables of this program's version are there. A newer version stays: tables are only ever added to.
async fn raise(store: &CqlStore) -> Result<(), StoreError> {
    let own = store.schema.version;
    loop {
        let stored = number(&fact(store, SCHEMA, &own.to_be_bytes()).await?);
        let stored = stored.ok_or_else(|| StoreError::corrupt(schema::META.name, "the schema's version"))?;
        if stored >= own {
            return Ok(());
        }
        tracing::info!(from = stored, to = own, "the tables of a newer version were made");
        // Guards are the version in which a fact was written.
        write(store, SCHEMA, Expect::Guards(stored, 0), &own.to_be_bytes()).await?;
    }
}

/// A fact about the store, made now if nobody made it.
async fn fact(store: &CqlStore, name: &str, proposed: &[u8]) -> Result<Bytes, StoreError> {
    loop {
        if let Some(value) = known(store, name).await? {
            return Ok(value);
        }
        write(store, name, Expect::Absent, proposed).await?;
    }
}

async fn known(store: &CqlStore, name: &str) -> Result<Option<Bytes>, StoreError> {
    let row = store.get(&schema::META, values_of![name], Values::new(), Consistency::Serial).await?;
    row.map(|row| {
        value_of(&row.value).ok_or_else(|| StoreError::corrupt(schema::META.name, format!("the fact {name}")))
    })
    .transpose()
}

/// What a fact says, as it is stored.
pub(crate) fn value_of(stored: &Bytes) -> Option<Bytes> {
    (stored.first() == Some(&FORMAT)).then(|| stored.slice(1..))
}

/// Writes a fact, or doesn't: whoever wants to know reads it.
async fn write(store: &CqlStore, name: &str, expect: Expect, value: &[u8]) -> Result<(), StoreError> {
    let value: Bytes = [&[FORMAT][..], value].concat().into();
    let condition = Condition { row: Values::new(), expect };
    let change = Change::Put(Row::new(Values::new(), value).guarded(store.schema.version, 0));
    match store.cas(&schema::META, values_of![name], condition, vec![change]).await {
        Ok(Cas::Applied | Cas::Refused(_)) | Err(StoreError::Unknown(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
