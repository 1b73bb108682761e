//! One-time keys, each handed out once, ever, in the order of upload. Those of another life of the store are void: in what was lost by a
//! restore they may have been given.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use polity_core::{
    TenantId,
    mutation::{Mutation, planted},
};
use polity_store::{
    Bounds, Cas, Change as StoreChange, Condition, Consistency, Expect, Row, StoreError, Value, Values, schema, values,
    values_of,
};
use ruma_common::{DeviceId, UserId};

use crate::{Accounts, Device, DeviceRef, Error, record::kind, shelf};

/// The head row of a device's keys of one algorithm.
const HEAD: i64 = -1;
/// Unclaimed keys per device and algorithm. As many claimed ones are remembered, so that an upload that is repeated after some of its
/// keys were claimed doesn't bring them back.
const KEYS: i64 = 500;
/// Algorithms per device.
pub(crate) const ALGORITHMS: usize = 16;
/// A key and its id have at most this many bytes.
const KEY_MAX: usize = 8 * 1024;
/// The keys of one algorithm in one upload have at most this many bytes.
const UPLOAD_MAX: usize = 256 * 1024;
/// Bytes of the name of an algorithm, which becomes part of a key.
const ALGORITHM_MAX: usize = 255;
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

/// What a device has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// How many one-time keys, by algorithm.
    pub one_time: BTreeMap<String, u64>,
    /// The algorithms with a fallback key that nobody was given yet.
    pub unused_fallback: Vec<String>,
}

/// What says which keys are left.
#[derive(Default)]
struct Head {
    /// The next index to hand out, and the next to upload to; `None`: there is none yet.
    stands: Option<(i64, i64)>,
    /// It was written in another life of the store: what it says to be left is void.
    void: bool,
}

/// Indexes of one life of a device.
const LIFE: i64 = 1 << 32;

/// Where a device's keys of one algorithm stand: at its place, which lives use one after the other, with the indexes of its life. So
/// lives that ended leave no heads behind, and what is uploaded late for one that ended is refused.
struct Keys {
    partition: Values,
    first: i64,
}

impl Keys {
    fn of(device: DeviceRef<'_>, algorithm: &str) -> Self {
        let DeviceRef { tenant, user_id, life, .. } = device;
        let first = i64::try_from(shelf::ordinal(life)).unwrap_or(i64::MAX).saturating_mul(LIFE);
        Self {
            partition: values([tenant.into(), user_id.as_str().into(), device.place().into(), algorithm.into()]),
            first,
        }
    }

    /// The first index that is a later life's.
    fn end(&self) -> i64 {
        self.first.saturating_add(LIFE)
    }

    /// What a head says about this life: nothing yet, while it is an earlier one's. None: the life is over.
    fn own(&self, head: &Head) -> Option<(i64, i64)> {
        let (claim, upload) = head.stands.unwrap_or_default();
        let claim = if head.void { upload } else { claim };
        (upload < self.end()).then(|| (claim.max(self.first), upload.max(self.first)))
    }
}

fn head_condition(head: &Head) -> Condition {
    let expect = head.stands.map_or(Expect::Absent, |(claim, upload)| Expect::Guards(claim, upload));
    Condition { row: values_of![HEAD], expect }
}

/// Before the store's life.
const FORMAT: [u8; 2] = [1, 0];

impl Accounts {
    fn head_row(&self, (claim, upload): (i64, i64)) -> Row {
        let value = [&FORMAT[..], self.store.incarnation().as_bytes()].concat();
        Row::new(values_of![HEAD], value.into()).guarded(claim, upload)
    }

    /// Takes one-time keys in. The same key again is no change, also when it was claimed lately.
    ///
    /// # Errors
    /// [`Error::KeyExists`] for another key under an id that is in use, [`Error::TooLarge`] for too many, [`Error::NoDevice`].
    pub async fn upload_one_time_keys(&self, device: DeviceRef<'_>, keys: Vec<OneTimeKey>) -> Result<(), Error> {
        let by_algorithm = by_algorithm(keys)?;
        if by_algorithm.is_empty() {
            return Ok(());
        }
        // Noted before the keys, so that none stands where nobody looks.
        self.note_algorithms(device, by_algorithm.keys()).await?;
        let mut refused = Ok(());
        for (algorithm, keys) in by_algorithm {
            match self.upload_of(&Keys::of(device, &algorithm), &keys).await {
                // Those of the others are taken nevertheless.
                Err(Error::KeyExists(key_id)) => refused = refused.and(Err(Error::KeyExists(key_id))),
                taken => taken?,
            }
        }
        refused
    }

    /// The keys of one algorithm.
    async fn upload_of(&self, at: &Keys, keys: &[OneTimeKey]) -> Result<(), Error> {
        for _ in 0..TRIES {
            if self.try_upload(at, keys).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// The algorithms of which a device ever uploaded one-time keys.
    async fn noted(&self, device: DeviceRef<'_>) -> Result<BTreeSet<String>, Error> {
        let entry = self.entry(device.tenant, device.user_id, (kind::ONE_TIME, "", &device.place())).await?;
        shelf::of_life(entry.as_ref(), device.life)
    }

    async fn note_algorithms(
        &self,
        device: DeviceRef<'_>,
        algorithms: impl Iterator<Item = &String> + Clone,
    ) -> Result<(), Error> {
        let DeviceRef { tenant, user_id, life, .. } = device;
        let place = device.place();
        self.update(tenant, user_id, (kind::ONE_TIME, "", &place), Some(device.alive()), |entry| {
            let mut noted: BTreeSet<String> = shelf::of_life(entry.as_ref(), life)?;
            let before = noted.len();
            noted.extend(algorithms.clone().cloned());
            if noted.len() == before {
                return Ok(((), Vec::new()));
            }
            if noted.len() > ALGORITHMS {
                return Err(Error::TooLarge(format!("a device has keys of at most {ALGORITHMS} algorithms")));
            }
            Ok(((), vec![shelf::set_of_life(kind::ONE_TIME, &place, life, &noted)?]))
        })
        .await
    }

    async fn try_upload(&self, at: &Keys, keys: &[OneTimeKey]) -> Result<bool, Error> {
        let Keys { partition, first } = at;
        let head = self.head(partition).await?;
        let (claim, upload) = at.own(&head).ok_or(Error::NoDevice)?;
        let oldest = (claim - KEYS).max(*first);
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
        let head_change = StoreChange::Put(self.head_row((claim, upload + count)));
        let forget = (oldest > *first)
            .then(|| StoreChange::DeleteRange { first: Value::Int(*first), last: Value::Int(oldest - 1) });
        let changes = rows.chain([head_change]).chain(forget).collect();
        self.key_cas(partition, head_condition(&head), changes).await
    }

    /// Hands out the oldest key; none left: the fallback key, which stays. Nothing for a device that isn't there.
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
        let Some(Device { life, .. }) = self.device(tenant, user_id, device_id).await? else { return Ok(None) };
        let device = DeviceRef { tenant, user_id, device_id, life };
        let at = Keys::of(device, algorithm);
        let partition = &at.partition;
        for _ in 0..TRIES {
            let head = self.head(partition).await?;
            let Some((claim, upload)) = at.own(&head).filter(|(claim, upload)| claim < upload) else {
                return self.claim_fallback_key(device, algorithm).await;
            };
            let key = self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![claim], Consistency::Serial);
            // Absent: the device was removed since the head was read. The next look tells.
            let Some(key) = key.await? else { continue };
            let changes = vec![StoreChange::Put(self.head_row((claim + 1, upload)))];
            let taken = match self.key_cas(partition, head_condition(&head), changes).await {
                Err(_) if planted(Mutation::KeyGivenUnknown) => true,
                taken => taken? || planted(Mutation::KeyByRead),
            };
            if taken {
                let id = key_id(&key).map(String::from).unwrap_or_default();
                return Ok(Some((id, key.value.get(2..).unwrap_or_default().to_vec())));
            }
        }
        Err(contended())
    }

    /// How many keys are left, by algorithm, and the algorithms with an unused fallback key.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn key_counts(&self, device: DeviceRef<'_>) -> Result<KeyCounts, Error> {
        let mut one_time = BTreeMap::new();
        for algorithm in self.noted(device).await? {
            let at = Keys::of(device, &algorithm);
            let (claim, upload) = at.own(&self.head(&at.partition).await?).unwrap_or_default();
            one_time.insert(algorithm, u64::try_from(upload - claim).unwrap_or(0));
        }
        Ok(KeyCounts { one_time, unused_fallback: self.unused_fallback_keys(device).await? })
    }

    /// Takes all one-time keys of a device out: it is gone.
    pub(crate) async fn drop_one_time_keys(&self, device: DeviceRef<'_>) -> Result<(), Error> {
        for algorithm in self.noted(device).await? {
            self.drop_keys_of(&Keys::of(device, &algorithm)).await?;
        }
        Ok(())
    }

    async fn drop_keys_of(&self, at: &Keys) -> Result<(), Error> {
        for _ in 0..TRIES {
            let head = self.head(&at.partition).await?;
            if at.own(&head).is_none() {
                return Ok(());
            }
            let all = StoreChange::DeleteRange { first: Value::Int(0), last: Value::Int(at.end() - 1) };
            // Past all indexes of this life, so that whoever read this head before is refused, and who comes late, too.
            let changes = vec![StoreChange::Put(self.head_row((at.end(), at.end()))), all];
            if self.key_cas(&at.partition, head_condition(&head), changes).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn head(&self, partition: &Values) -> Result<Head, Error> {
        let row =
            self.store.get(&schema::ONE_TIME_KEYS, partition.clone(), values_of![HEAD], Consistency::Serial).await?;
        let Some(row) = row else { return Ok(Head::default()) };
        let life = row.value.get(FORMAT.len()..);
        Ok(Head { stands: row.guards, void: life != Some(&self.store.incarnation().as_bytes()[..]) })
    }

    /// The keys from an index on, claimed ones too: twice as many as may be unclaimed, at most.
    async fn keys_from(&self, partition: &Values, oldest: i64) -> Result<Vec<Row>, Error> {
        let bounds = Bounds { from: Bound::Included(values([Value::Int(oldest)])), ..Bounds::all() };
        let (partition, most) = (partition.clone(), usize::MAX);
        Ok(polity_store::rows(&*self.store, &schema::ONE_TIME_KEYS, partition, bounds, most, Consistency::Serial)
            .await?)
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
pub(crate) fn by_algorithm(keys: Vec<OneTimeKey>) -> Result<BTreeMap<String, Vec<OneTimeKey>>, Error> {
    check(&keys)?;
    let mut out: BTreeMap<String, Vec<OneTimeKey>> = BTreeMap::new();
    for key in keys {
        out.entry(key.algorithm.clone()).or_default().push(key);
    }
    Ok(out)
}

/// Whether keys of one upload are small enough.
pub(crate) fn check(keys: &[OneTimeKey]) -> Result<(), Error> {
    let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
    for OneTimeKey { algorithm, key_id, key } in keys {
        if algorithm.len() + key_id.len() + key.len() > KEY_MAX {
            return Err(Error::TooLarge(format!("a key has at most {KEY_MAX} bytes")));
        }
        if algorithm.len() > ALGORITHM_MAX {
            return Err(Error::TooLarge(format!("an algorithm's name has at most {ALGORITHM_MAX} bytes")));
        }
        *bytes.entry(algorithm).or_default() += key_id.len() + key.len();
    }
    if bytes.values().any(|bytes| *bytes > UPLOAD_MAX) {
        return Err(Error::TooLarge(format!("keys of one algorithm have at most {UPLOAD_MAX} bytes in one upload")));
    }
    Ok(())
}
