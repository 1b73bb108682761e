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
/// Unclaimed keys per device and algorithm. As many claimed ones are remembered, so that an upload that is repeated after some of its
/// keys were claimed doesn't bring them back.
const KEYS: i64 = 500;
/// Algorithms per device.
const ALGORITHMS: usize = 16;
/// A key and its id have at most this many bytes.
const KEY_MAX: usize = 8 * 1024;
/// The keys of one algorithm in one upload have at most this many bytes.
const UPLOAD_MAX: usize = 256 * 1024;
const TRIES: usize = 200;

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
    /// Takes one-time keys in. The same key again is no change, also when it was claimed lately.
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
        let by_algorithm = by_algorithm(keys)?;
        if by_algorithm.is_empty() {
            return Ok(());
        }
        let known = record::entries(&*self.store, tenant, user_id, kind::ONE_TIME, Some(device_id.as_str())).await?;
        let is_known = |algorithm: &String| known.iter().any(|entry| entry.key == *algorithm && entry.value.is_some());
        let new: Vec<&String> = by_algorithm.keys().filter(|algorithm| !is_known(algorithm)).collect();
        if known.iter().filter(|entry| entry.value.is_some()).count() + new.len() > ALGORITHMS {
            return Err(Error::TooLarge(format!("a device has keys of at most {ALGORITHMS} algorithms")));
        }
        if !new.is_empty() {
            // Noted before the keys, so that none stands where nobody looks.
            let note =
                |algorithm: &String| Change::new(kind::ONE_TIME, device_id.as_str(), algorithm, Some(Vec::new()));
            self.change(tenant, user_id, new.into_iter().map(note).collect()).await?;
        }
        for (algorithm, keys) in by_algorithm {
            let partition = partition(tenant, user_id, device_id, &algorithm);
            let mut tries = 0;
            while !self.try_upload(&partition, &keys).await? {
                tries += 1;
                if tries == TRIES {
                    return Err(contended());
                }
            }
        }
        Ok(())
    }

    async fn try_upload(&self, partition: &Values, keys: &[OneTimeKey]) -> Result<bool, Error> {
        let head = self.head(partition).await?;
        let (claim, upload) = head.unwrap_or((0, 0));
        let oldest = (claim - KEYS).max(0);
        let there = self.keys_from(partition, oldest).await?;
        let mut new = Vec::new();
        for key in keys {
            let mut of_id = there.iter().filter(|row| key_id(row) == Some(&key.key_id));
            let same = |row: &Row| row.value.get(2..) == Some(&key.key[..]);
            // Newest last: the one that counts. A claimed key is gone: its id may come again with another content.
            match of_id.next_back() {
                Some(row) if same(row) => {}
                Some(row) if index(row) >= claim => return Err(Error::KeyExists(key.key_id.clone())),
                _ => new.push(key),
            }
        }
        if new.is_empty() {
            return Ok(true);
        }
        let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
        if (upload - claim).saturating_add(count) > KEYS {
            return Err(Error::TooLarge(format!("a device has at most {KEYS} one-time keys")));
        }
        let rows = new.into_iter().zip(upload..).map(|(key, idx)| {
            let value = [&[1, 0][..], &key.key].concat();
            StoreChange::Put(
                Row::new(values_of![idx], value.into()).with_columns(vec![Some(Value::from(key.key_id.as_str()))]),
            )
        });
        let head_change = StoreChange::Put(head_row((claim, upload + count)));
        let forget =
            (oldest > 0).then(|| StoreChange::DeleteRange { first: Value::Int(0), last: Value::Int(oldest - 1) });
        let changes = rows.chain([head_change]).chain(forget).collect();
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
            let head = self.head(&partition).await?;
            let Some((claim, upload)) = head.filter(|(claim, upload)| claim < upload) else {
                return self.fallback_key(tenant, user_id, device_id, algorithm).await;
            };
            let key = self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![claim], Consistency::Serial);
            // Absent: the device was removed since the head was read. The next look tells.
            let Some(key) = key.await? else { continue };
            let changes = vec![StoreChange::Put(head_row((claim + 1, upload)))];
            if self.key_cas(&partition, head_condition(head), changes).await? {
                let id = key_id(&key).map(String::from).unwrap_or_default();
                return Ok(Some((id, key.value.get(2..).unwrap_or_default().to_vec())));
            }
        }
        Err(contended())
    }

    async fn fallback_key(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        algorithm: &str,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        self.update(tenant, user_id, (kind::FALLBACK, device_id.as_str(), algorithm), |entry| {
            let fallback: Option<Fallback> = entry.map(|entry| entry.decode()).transpose()?.flatten();
            let Some(fallback) = fallback else { return Ok((None, Vec::new())) };
            let given = Some((fallback.key_id.clone(), fallback.key.clone()));
            if fallback.used {
                return Ok((given, Vec::new()));
            }
            let used = Fallback { used: true, ..fallback };
            Ok((given, vec![Change::set(kind::FALLBACK, device_id.as_str(), algorithm, &used)?]))
        })
        .await
    }

    /// Sets a device's fallback keys. The same key again is no change: it stays used if it was.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoAccount`].
    pub async fn set_fallback_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        keys: Vec<OneTimeKey>,
    ) -> Result<(), Error> {
        for (algorithm, keys) in by_algorithm(keys)? {
            // The spec allows one of each algorithm.
            let Some(OneTimeKey { key_id, key, .. }) = keys.into_iter().next() else { continue };
            let device_id = device_id.as_str();
            let known = record::entries(&*self.store, tenant, user_id, kind::FALLBACK, Some(device_id)).await?;
            let others = known.iter().filter(|entry| entry.value.is_some() && entry.key != algorithm).count();
            if others >= ALGORITHMS {
                return Err(Error::TooLarge(format!("a device has keys of at most {ALGORITHMS} algorithms")));
            }
            self.update(tenant, user_id, (kind::FALLBACK, device_id, &algorithm), |entry| {
                let now: Option<Fallback> = entry.map(|entry| entry.decode()).transpose()?.flatten();
                if now.is_some_and(|now| now.key_id == key_id && now.key == key) {
                    return Ok(((), Vec::new()));
                }
                let fallback = Fallback { key_id: key_id.clone(), key: key.clone(), used: false };
                Ok(((), vec![Change::set(kind::FALLBACK, device_id, &algorithm, &fallback)?]))
            })
            .await?;
        }
        Ok(())
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
        let scope = device_id.as_str();
        let mut counts = Uploaded::new();
        for entry in record::entries(&*self.store, tenant, user_id, kind::ONE_TIME, Some(scope)).await? {
            if entry.value.is_some() {
                let head = self.head(&partition(tenant, user_id, device_id, &entry.key)).await?;
                let (claim, upload) = head.unwrap_or((0, 0));
                counts.insert(entry.key, u64::try_from(upload - claim).unwrap_or(0));
            }
        }
        let mut unused = Vec::new();
        for entry in record::entries(&*self.store, tenant, user_id, kind::FALLBACK, Some(scope)).await? {
            if entry.decode::<Fallback>()?.is_some_and(|fallback| !fallback.used) {
                unused.push(entry.key);
            }
        }
        Ok((counts, unused))
    }

    /// Takes all one-time and fallback keys of a device out: it is gone.
    pub(crate) async fn drop_one_time_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<(), Error> {
        let mut gone = Vec::new();
        for kind in [kind::ONE_TIME, kind::FALLBACK] {
            for entry in record::entries(&*self.store, tenant, user_id, kind, Some(device_id.as_str())).await? {
                if entry.value.is_none() {
                    continue;
                }
                if kind == kind::ONE_TIME {
                    self.drop_keys_of(&partition(tenant, user_id, device_id, &entry.key)).await?;
                }
                gone.push(Change::new(kind, device_id.as_str(), &entry.key, None));
            }
        }
        if gone.is_empty() { Ok(()) } else { self.change(tenant, user_id, gone).await.map(drop) }
    }

    async fn drop_keys_of(&self, partition: &Values) -> Result<(), Error> {
        for _ in 0..TRIES {
            let Some((claim, upload)) = self.head(partition).await? else { return Ok(()) };
            let all = StoreChange::DeleteRange { first: Value::Int(0), last: Value::Int(upload) };
            // One past the last, so that a claim that read this head before is refused.
            let changes = vec![StoreChange::Put(head_row((upload + 1, upload + 1))), all];
            if self.key_cas(partition, head_condition(Some((claim, upload))), changes).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn head(&self, partition: &Values) -> Result<Head, Error> {
        let row =
            self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![HEAD], Consistency::Serial).await?;
        Ok(row.and_then(|row| row.guards))
    }

    /// The keys from an index on, claimed ones too: twice as many as may be unclaimed, at most.
    async fn keys_from(&self, partition: &Values, oldest: i64) -> Result<Vec<Row>, Error> {
        let mut bounds = Bounds { from: Bound::Included(values([Value::Int(oldest)])), ..Bounds::all() };
        let limit = usize::try_from(2 * KEYS).unwrap_or(usize::MAX);
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let (store, at) = (&self.store, bounds.clone());
            let page = store.scan(&schema::ONE_TIME_KEYS, partition.clone(), at, limit, Consistency::Serial).await?;
            rows.extend(page.rows);
            match rows.last() {
                Some(last) if page.more => bounds.from = Bound::Excluded(last.key.clone()),
                _ => return Ok(rows),
            }
        }
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

fn index(row: &Row) -> i64 {
    row.key.first().and_then(Value::as_int).unwrap_or(HEAD)
}

fn contended() -> Error {
    StoreError::Unavailable("the one-time keys of a device are asked for too often at once".to_owned()).into()
}

/// The keys by their algorithms, if none is too large.
fn by_algorithm(keys: Vec<OneTimeKey>) -> Result<BTreeMap<String, Vec<OneTimeKey>>, Error> {
    let mut out: BTreeMap<String, Vec<OneTimeKey>> = BTreeMap::new();
    for key in keys {
        if key.algorithm.len() + key.key_id.len() + key.key.len() > KEY_MAX {
            return Err(Error::TooLarge(format!("a key has at most {KEY_MAX} bytes")));
        }
        out.entry(key.algorithm.clone()).or_default().push(key);
    }
    let bytes = |keys: &Vec<OneTimeKey>| keys.iter().map(|key| key.key_id.len() + key.key.len()).sum::<usize>();
    if out.values().any(|keys| bytes(keys) > UPLOAD_MAX) {
        return Err(Error::TooLarge(format!("keys of one algorithm have at most {UPLOAD_MAX} bytes in one upload")));
    }
    Ok(out)
}
