//! The tenants beside the one that the configuration names.

use std::ops::Bound;

use polity_core::TenantId;
use ruma_common::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};

use crate::{
    Bounds, Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Value, codec, schema, values_of,
};

const TABLE: &str = schema::TENANTS.name;
/// They all stand in one partition.
const ALL: &str = "all";
const VERSION: i64 = 1;
const IN_USE: i64 = 1;
const PAGE: usize = 1000;

/// A tenant as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredTenant {
    /// Its id.
    pub id: TenantId,
    /// Its server name.
    pub server_name: OwnedServerName,
    /// Where its clients find it.
    pub public_baseurl: String,
    /// Its signing key.
    pub key: StoredKey,
}

/// The ed25519 key of a tenant.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// What stands behind `ed25519:`.
    pub version: String,
    /// The secret.
    pub seed: [u8; 32],
}

/// Makes a tenant. Of two who make one of the same name exactly one does. Whether it was this one.
///
/// # Errors
/// When the store can't be read or written.
pub async fn create(store: &dyn Store, tenant: &StoredTenant) -> Result<bool, StoreError> {
    let key = values_of![tenant.server_name.as_str()];
    let row = Row::new(key.clone(), codec::encode(TABLE, &tenant.key)?)
        .guarded(VERSION, IN_USE)
        .with_columns(vec![Some(tenant.id.into()), Some(tenant.public_baseurl.as_str().into())]);
    let condition = Condition { row: key, expect: Expect::Absent };
    let made = store.cas(&schema::TENANTS, values_of![ALL], condition, vec![Change::Put(row)]).await?;
    Ok(made == Cas::Applied)
}

/// All of them, by name.
///
/// # Errors
/// When the store can't be read.
pub async fn all(store: &dyn Store) -> Result<Vec<StoredTenant>, StoreError> {
    let mut tenants: Vec<StoredTenant> = Vec::new();
    loop {
        let last = tenants.last().map(|last| Bound::Excluded(values_of![last.server_name.as_str()]));
        let bounds = Bounds { from: last.unwrap_or(Bound::Unbounded), ..Bounds::all() };
        let page = store.scan(&schema::TENANTS, values_of![ALL], bounds, PAGE, Consistency::Serial).await?;
        for row in &page.rows {
            tenants.push(read(row)?);
        }
        if !page.more {
            return Ok(tenants);
        }
    }
}

fn read(row: &Row) -> Result<StoredTenant, StoreError> {
    let corrupt = || StoreError::corrupt(TABLE, "a tenant without name, id or address");
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
    let name = row.key.first().and_then(Value::as_text).and_then(|name| ServerName::parse(name).ok());
    let id = column(0).and_then(Value::as_int).ok_or_else(corrupt)?;
    Ok(StoredTenant {
        id: TenantId::new(id.cast_unsigned()),
        server_name: name.ok_or_else(corrupt)?,
        public_baseurl: column(1).and_then(Value::as_text).ok_or_else(corrupt)?.to_owned(),
        key: codec::decode(TABLE, &row.value)?,
    })
}
