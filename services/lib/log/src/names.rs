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
const IN_USE: i64 = 1;

/// A name as it is looked up.
#[derive(Hash)]
struct Named<'a>(TenantId, &'a str);

impl Equivalent<(TenantId, Box<str>)> for Named<'_> {
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
}

impl Names {
    /// The names of one use (`room`, `inbox`).
    #[must_use]
    pub fn new(store: Arc<dyn Store>, random: Arc<dyn Random>, usage: &'static str) -> Self {
        Self { store, random, usage, cache: Cache::new(CACHED) }
    }

    /// The log of a name, if it has one.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn find(&self, tenant: TenantId, name: &str) -> Result<Option<LogKey>, LogError> {
        if let Some(key) = self.cache.get(&Named(tenant, name)) {
            return Ok(Some(key));
        }
        let row = self
            .store
            .get(&schema::LOG_NAMES, self.partition(tenant, name), Values::new(), Consistency::Quorum)
            .await?;
        let key = row.map(|row| key_of(tenant, &row)).transpose()?;
        if let Some(key) = key {
            self.cache.insert((tenant, name.into()), key);
        }
        Ok(key)
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
        self.write(name, Expect::Absent, key).await
    }

    /// Gives a name a new log, its next life; `None` if somebody else did, or there is none left.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn next_life(&self, name: &str, current: LogKey) -> Result<Option<LogKey>, LogError> {
        let Some(life) = current.life.next() else { return Ok(None) };
        let key = LogKey { tenant: current.tenant, log: LogId::new(self.random.bytes()), life };
        let expect = Expect::Guards(current.life.get().into(), IN_USE);
        let written = self.write(name, expect, key).await?;
        Ok((written == key).then_some(key))
    }

    async fn write(&self, name: &str, expect: Expect, key: LogKey) -> Result<LogKey, LogError> {
        let partition = self.partition(key.tenant, name);
        let row = Row::new(Values::new(), bytes::Bytes::new())
            .guarded(key.life.get().into(), IN_USE)
            .with_columns(vec![Some(Value::from(key.log))]);
        let condition = Condition { row: Values::new(), expect };
        let stands =
            match self.store.cas(&schema::LOG_NAMES, partition.clone(), condition, vec![Change::Put(row)]).await {
                Ok(Cas::Applied) => Some(key),
                Ok(Cas::Refused(row)) => row.map(|row| key_of(key.tenant, &row)).transpose()?,
                // Whatever stands there now (or settles while it is read) is the name's log.
                Err(StoreError::Unknown(_)) => {
                    let row = self.store.get(&schema::LOG_NAMES, partition, Values::new(), Consistency::Serial).await?;
                    row.map(|row| key_of(key.tenant, &row)).transpose()?
                }
                Err(error) => return Err(error.into()),
            };
        let stands = stands.ok_or_else(|| StoreError::Unavailable("a name could not be written".to_owned()))?;
        self.cache.insert((key.tenant, name.into()), stands);
        Ok(stands)
    }

    fn partition(&self, tenant: TenantId, name: &str) -> Values {
        values_of![tenant, self.usage, name]
    }
}

fn key_of(tenant: TenantId, row: &Row) -> Result<LogKey, LogError> {
    let corrupt = || LogError::Corrupt("a name without log or life".to_owned());
    let log = row.columns.first().and_then(Option::as_ref).and_then(Value::as_blob).ok_or_else(corrupt)?;
    let life = row.guards.and_then(|(life, _)| u16::try_from(life).ok()).ok_or_else(corrupt)?;
    Ok(LogKey {
        tenant,
        log: LogId::from_slice(log).map_err(|_| corrupt())?,
        life: Life::new(life).map_err(|_| corrupt())?,
    })
}
