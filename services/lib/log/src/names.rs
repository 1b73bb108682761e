//! Which log a name stands for: a room by its id, an inbox by its device.

use std::sync::Arc;

use polity_core::{Life, LogId, LogKey, Random, TenantId};
use polity_store::{
    Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Value, Values, schema, values_of,
};
use quick_cache::{Equivalent, sync::Cache};

use crate::LogError;

/// Names kept in memory.
const CACHED: usize = 50_000;
/// Logs that are remembered to be sealed: who forgets one of them sees it once more.
const SEALED: usize = 1_000;
const IN_USE: i64 = 1;

/// A name as it is looked up.
#[derive(Hash)]
struct Asked<'a>(TenantId, &'a str);

impl Equivalent<(TenantId, Box<str>)> for Asked<'_> {
    fn equivalent(&self, (tenant, name): &(TenantId, Box<str>)) -> bool {
        *tenant == self.0 && **name == *self.1
    }
}

/// The names of logs.
pub struct Names {
    store: Arc<dyn Store>,
    random: Arc<dyn Random>,
    usage: &'static str,
    cache: Cache<(TenantId, Box<str>), LogKey>,
    /// Logs that were found sealed: their names have, or are about to have, another one.
    sealed: Cache<LogId, ()>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its log.
    pub key: LogKey,
    /// The log of its life before, which is sealed.
    pub before: Option<LogKey>,
}

impl Names {
    /// The names of one use (`room`, `inbox`).
    #[must_use]
    pub fn new(store: Arc<dyn Store>, random: Arc<dyn Random>, usage: &'static str) -> Self {
        Self { store, random, usage, cache: Cache::new(CACHED), sealed: Cache::new(SEALED) }
    }

    /// The log of a name, if it has one.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn find(&self, tenant: TenantId, name: &str) -> Result<Option<LogKey>, LogError> {
        if let Some(key) = self.cache.get(&Asked(tenant, name))
            && self.sealed.peek(&key.log).is_none()
        {
            return Ok(Some(key));
        }
        Ok(self.look_up(tenant, name, Consistency::Quorum).await?.map(|named| named.key))
    }

    /// What a name stands for now, whatever is in memory.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn look_up(
        &self,
        tenant: TenantId,
        name: &str,
        consistency: Consistency,
    ) -> Result<Option<Named>, LogError> {
        let row = self.store.get(&schema::LOG_NAMES, self.partition(tenant, name), Values::new(), consistency).await?;
        let named = row.map(|row| named(tenant, &row)).transpose()?;
        if let Some(Named { key, .. }) = named {
            self.cache.insert((tenant, name.into()), key);
        }
        Ok(named)
    }

    /// Notes that a log was found sealed: whoever asks for its name again is told what that stands for by then.
    pub fn sealed(&self, key: LogKey) {
        self.sealed.insert(key.log, ());
    }

    /// The log of a name; a new one if it has none. Whoever is first decides.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub async fn find_or_make(&self, tenant: TenantId, name: &str) -> Result<LogKey, LogError> {
        if let Some(key) = self.find(tenant, name).await? {
            return Ok(key);
        }
        let key = LogKey { tenant, log: LogId::new(self.random.bytes()), life: Life::FIRST };
        self.write(name, Expect::Absent, Named { key, before: None }).await
    }

    /// Gives a name a new log, its next life; `None` if somebody else did, or there is none left. The log that it had must be sealed: it
    /// stays with the name, so that whoever asks for its purge again finds it.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn next_life(&self, name: &str, current: LogKey) -> Result<Option<LogKey>, LogError> {
        let Some(life) = current.life.next() else { return Ok(None) };
        let key = LogKey { tenant: current.tenant, log: LogId::new(self.random.bytes()), life };
        let expect = Expect::Guards(current.life.get().into(), IN_USE);
        let written = self.write(name, expect, Named { key, before: Some(current) }).await?;
        if written == current {
            // Unknown, and not there yet.
            return Err(unwritten().into());
        }
        Ok((written == key).then_some(key))
    }

    async fn write(&self, name: &str, expect: Expect, Named { key, before }: Named) -> Result<LogKey, LogError> {
        let partition = self.partition(key.tenant, name);
        let row = Row::new(Values::new(), bytes::Bytes::new())
            .guarded(key.life.get().into(), IN_USE)
            .with_columns(vec![Some(Value::from(key.log)), before.map(|before| Value::from(before.log))]);
        let condition = Condition { row: Values::new(), expect };
        let stands =
            match self.store.cas(&schema::LOG_NAMES, partition.clone(), condition, vec![Change::Put(row)]).await {
                Ok(Cas::Applied) => Some(key),
                Ok(Cas::Refused(row)) => row.map(|row| named(key.tenant, &row)).transpose()?.map(|named| named.key),
                // Whatever stands there now (or settles while it is read) is the name's log.
                Err(StoreError::Unknown(_)) => {
                    let row = self.store.get(&schema::LOG_NAMES, partition, Values::new(), Consistency::Serial).await?;
                    row.map(|row| named(key.tenant, &row)).transpose()?.map(|named| named.key)
                }
                Err(error) => return Err(error.into()),
            };
        let stands = stands.ok_or_else(unwritten)?;
        self.cache.insert((key.tenant, name.into()), stands);
        Ok(stands)
    }

    fn partition(&self, tenant: TenantId, name: &str) -> Values {
        values_of![tenant, self.usage, name]
    }
}

fn unwritten() -> StoreError {
    StoreError::Unavailable("a name could not be written".to_owned())
}

fn named(tenant: TenantId, row: &Row) -> Result<Named, LogError> {
    let corrupt = || LogError::Corrupt("a name without log or life".to_owned());
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref).and_then(Value::as_blob);
    let log = |log: &bytes::Bytes| LogId::from_slice(log).map_err(|_| corrupt());
    let life = row.guards.and_then(|(life, _)| u16::try_from(life).ok()).ok_or_else(corrupt)?;
    let key =
        LogKey { tenant, log: log(column(0).ok_or_else(corrupt)?)?, life: Life::new(life).map_err(|_| corrupt())? };
    let before = match (column(1), life.checked_sub(1).map(Life::new)) {
        (Some(before), Some(Ok(life))) => Some(LogKey { tenant, log: log(before)?, life }),
        _ => None,
    };
    Ok(Named { key, before })
}
