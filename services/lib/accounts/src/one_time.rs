//! One-time keys, each handed out once, ever, in the order of upload; and fallback keys for when none is left.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use polity_core::TenantId;
use polity_store::{
    Bounds, Cas, Change as StoreChange, Condition, Consistency, Expect, Row, StoreError, Value, Values, schema, values,
    values_of,
};
use ruma_common::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, Error,
    record::{self, kind},
};

/// The head row of a device's keys of one algorithm.
const HEAD: i64 = -1;
/// Unclaimed keys per device and algorithm.
const KEYS: i64 = 500;
const TRIES: usize = 100;

/// A key that a client uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeKey {
    /// Its algorithm.
    pub algorithm: String,
    /// Its id within the algorithm.
    pub key_id: String,
    /// The key, as JSON.
    pub key: Vec<u8>,
}

/// How many are left, by algorithm.
pub type Uploaded = BTreeMap<String, u64>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fallback {
    key_id: String,
    key: Vec<u8>,
    used: bool,
}

/// The next index to hand out, and the next to upload to.
type Head = Option<(i64, i64)>;

fn partition(tenant: TenantId, user_id: &UserId, device_id: &DeviceId, algorithm: &str) -> Values {
    values([tenant.into(), user_id.as_str().into(), device_id.as_str().into(), algorithm.into()])
}

fn head_condition(head: Head) -> Condition {
    let expect = head.map_or(Expect::Absent, |(claim, upload)| Expect::Guards(claim, upload));
    Condition { row: values_of![HEAD], expect }
}

fn head_row((claim, upload): (i64, i64)) -> Row {
    Row::new(values_of![HEAD], Bytes::from_static(&[1, 0])).guarded(claim, upload)
}

impl Accounts {
    /// Takes one-time keys in. The same key again is no change.
    ///
    /// # Errors
    /// [`Error::KeyExists`] for another key under an id that is in use, [`Error::TooLarge`] for too many.
    pub async fn upload_one_time_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        keys: Vec<OneTimeKey>,
    ) -> Result<(), Error> {
        let mut by_algorithm: BTreeMap<String, Vec<OneTimeKey>> = BTreeMap::new();
        for key in keys {
            by_algorithm.entry(key.algorithm.clone()).or_default().push(key);
        }
        for (algorithm, keys) in by_algorithm {
            let partition = partition(tenant, user_id, device_id, &algorithm);
            let mut tries = 0;
            while !self.try_upload(&partition, &keys).await? {
                tries += 1;
                if tries == TRIES {
                    return Err(StoreError::Unavailable("one-time keys are being claimed too fast".into()).into());
                }
            }
            let counted = Change::new(kind::FALLBACK, &format!("algorithms/{device_id}"), &algorithm, Some(vec![1]));
            if self.entry(tenant, user_id, (kind::FALLBACK, &counted.scope, &algorithm)).await?.is_none() {
                self.change(tenant, user_id, vec![counted]).await?;
            }
        }
        Ok(())
    }

    async fn try_upload(&self, partition: &Values, keys: &[OneTimeKey]) -> Result<bool, Error> {
        let head = self.head(partition).await?;
        let (claim, upload) = head.unwrap_or((0, 0));
        let there = self.unclaimed(partition, claim).await?;
        let mut new = Vec::new();
        for key in keys {
            match there.iter().find(|row| key_id(row) == Some(&key.key_id)) {
                Some(row) if row.value.get(2..) == Some(&key.key[..]) => {}
                Some(_) => return Err(Error::KeyExists(key.key_id.clone())),
                None => new.push(key),
            }
        }
        if new.is_empty() {
            return Ok(true);
        }
        let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
        if upload - claim + count > KEYS {
            return Err(Error::TooLarge(format!("a device has at most {KEYS} one-time keys")));
        }
        let rows = new.into_iter().zip(upload..).map(|(key, idx)| {
            let value = [&[1, 0][..], &key.key].concat();
            StoreChange::Put(
                Row::new(values_of![idx], value.into()).with_columns(vec![Some(Value::from(key.key_id.as_str()))]),
            )
        });
        let changes = rows.chain([StoreChange::Put(head_row((claim, upload + count)))]).collect();
        self.key_cas(partition, head_condition(head), changes).await
    }

    /// Hands out the oldest key; none left: the fallback key, which stays.
    ///
    /// # Errors
    /// When the store can't be written. A key may have been taken out then, and never given: better than twice.
    pub async fn claim_one_time_key(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        algorithm: &str,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        let partition = partition(tenant, user_id, device_id, algorithm);
        for _ in 0..TRIES {
            let Some((claim, upload)) = self.head(&partition).await? else { break };
            if claim >= upload {
                break;
            }
            let key = self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![claim], Consistency::Serial);
            let Some(key) = key.await? else { break };
            let gone = StoreChange::DeleteRange { first: Value::Int(claim), last: Value::Int(claim) };
            let changes = vec![StoreChange::Put(head_row((claim + 1, upload))), gone];
            if self.key_cas(&partition, head_condition(Some((claim, upload))), changes).await? {
                let id = key_id(&key).map(String::from).unwrap_or_default();
                return Ok(Some((id, key.value.get(2..).unwrap_or_default().to_vec())));
            }
        }
        self.fallback_key(tenant, user_id, device_id, algorithm).await
    }

    async fn fallback_key(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        algorithm: &str,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        let entry = self.entry(tenant, user_id, (kind::FALLBACK, device_id.as_str(), algorithm)).await?;
        let Some(fallback) = entry.map(|entry| entry.decode::<Fallback>()).transpose()?.flatten() else {
            return Ok(None);
        };
        if !fallback.used {
            let used = Fallback { used: true, ..fallback.clone() };
            let change = Change::set(kind::FALLBACK, device_id.as_str(), algorithm, &used)?;
            self.change(tenant, user_id, vec![change]).await?;
        }
        Ok(Some((fallback.key_id, fallback.key)))
    }

    /// Sets a device's fallback keys.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn set_fallback_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        keys: Vec<OneTimeKey>,
    ) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(keys.len());
        for OneTimeKey { algorithm, key_id, key } in keys {
            let fallback = Fallback { key_id, key, used: false };
            changes.push(Change::set(kind::FALLBACK, device_id.as_str(), &algorithm, &fallback)?);
        }
        if changes.is_empty() { Ok(()) } else { self.change(tenant, user_id, changes).await.map(drop) }
    }

    /// How many keys are left, by algorithm, and the algorithms with an unused fallback key.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn key_counts(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<(Uploaded, Vec<String>), Error> {
        let scope = format!("algorithms/{device_id}");
        let mut counts = Uploaded::new();
        for entry in record::entries(&*self.store, tenant, user_id, kind::FALLBACK, Some(&scope)).await? {
            let head = self.head(&partition(tenant, user_id, device_id, &entry.key)).await?;
            let (claim, upload) = head.unwrap_or((0, 0));
            counts.insert(entry.key, u64::try_from(upload - claim).unwrap_or(0));
        }
        let mut unused = Vec::new();
        let scope = device_id.as_str();
        for entry in record::entries(&*self.store, tenant, user_id, kind::FALLBACK, Some(scope)).await? {
            if entry.decode::<Fallback>()?.is_some_and(|fallback| !fallback.used) {
                unused.push(entry.key);
            }
        }
        Ok((counts, unused))
    }

    /// Takes all keys of a device out: it is gone.
    pub(crate) async fn drop_one_time_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<(), Error> {
        let scope = format!("algorithms/{device_id}");
        let mut gone = Vec::new();
        for entry in record::entries(&*self.store, tenant, user_id, kind::FALLBACK, Some(&scope)).await? {
            let partition = partition(tenant, user_id, device_id, &entry.key);
            for _ in 0..TRIES {
                let Some((claim, upload)) = self.head(&partition).await? else { break };
                let all = StoreChange::DeleteRange { first: Value::Int(0), last: Value::Int(upload) };
                let changes = vec![StoreChange::Put(head_row((upload, upload))), all];
                if self.key_cas(&partition, head_condition(Some((claim, upload))), changes).await? {
                    break;
                }
            }
            gone.push(Change::new(kind::FALLBACK, device_id.as_str(), &entry.key, None));
        }
        if gone.is_empty() { Ok(()) } else { self.change(tenant, user_id, gone).await.map(drop) }
    }

    async fn head(&self, partition: &Values) -> Result<Head, Error> {
        let row =
            self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![HEAD], Consistency::Serial).await?;
        Ok(row.and_then(|row| row.guards))
    }

    async fn unclaimed(&self, partition: &Values, claim: i64) -> Result<Vec<Row>, Error> {
        let bounds = Bounds { from: Bound::Included(values([Value::Int(claim)])), ..Bounds::all() };
        let limit = usize::try_from(KEYS).unwrap_or(usize::MAX);
        let page =
            self.store.scan(&schema::ONE_TIME_KEYS, partition.clone(), bounds, limit, Consistency::Serial).await?;
        Ok(page.rows)
    }

    /// A conditional write of keys. An unknown outcome counts as failed: a key that may have been given isn't given again.
    async fn key_cas(
        &self,
        partition: &Values,
        condition: Condition,
        changes: Vec<StoreChange>,
    ) -> Result<bool, Error> {
        let outcome = self.store.cas(&schema::ONE_TIME_KEYS, partition.clone(), condition, changes).await?;
        Ok(outcome == Cas::Applied)
    }
}

fn key_id(row: &Row) -> Option<&str> {
    row.columns.first().and_then(Option::as_ref).and_then(Value::as_text)
}
