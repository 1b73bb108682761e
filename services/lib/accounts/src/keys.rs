//! Identity keys of devices, as JSON that clients signed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-keys>

use std::collections::{BTreeMap, BTreeSet};

use polity_core::{
    TenantId,
    mutation::{Mutation, planted},
};
use ruma_common::{OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Accounts, Change, DeviceRef, Error, OneTimeKey,
    cross_signing::add_signatures,
    jobs, one_time,
    record::{self, kind},
};

/// Keys of one upload have at most this many bytes.
const KEYS_MAX: usize = 64 * 1024;

/// Signatures of one user on one key, by the ids of the keys with which they were made.
pub(crate) type Signatures = BTreeMap<String, String>;

/// Signatures that somebody made, and the ids of all keys with which they can be made now.
pub(crate) struct Made {
    pub(crate) made: Signatures,
    pub(crate) known: BTreeSet<String>,
}

/// The keys of a device, at its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeviceKeys {
    device_id: OwnedDeviceId,
    /// JSON, as the client signed it.
    keys: Vec<u8>,
    /// Those that the user added later. They say nothing about other keys of that device.
    signatures: Signatures,
}

/// What a device uploads of its keys at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUpload {
    /// Its identity keys, as JSON.
    pub device_keys: Option<Vec<u8>>,
    /// See [`Accounts::upload_one_time_keys`].
    pub one_time: Vec<OneTimeKey>,
    /// See [`Accounts::set_fallback_keys`].
    pub fallback: Vec<OneTimeKey>,
}

impl Accounts {
    /// Takes in what a device uploads. Its identity keys come last: who finds them may write to it at once, and some clients do that
    /// once only, without the devices of which no key is left.
    ///
    /// # Errors
    /// Those of the three parts; a key that has too many bytes is told before anything is taken. Where a one-time key is refused because
    /// another one stands there, the identity keys are taken nevertheless: there is a key for who finds them.
    pub async fn upload_keys(&self, device: DeviceRef<'_>, upload: KeyUpload) -> Result<(), Error> {
        let KeyUpload { mut device_keys, one_time, fallback } = upload;
        check(device_keys.as_ref().map_or(0, Vec::len))?;
        one_time::check(&one_time)?;
        one_time::check(&fallback)?;
        if planted(Mutation::FoundWithoutKeys)
            && let Some(keys) = device_keys.take()
        {
            self.set_device_keys(device, keys).await?;
        }
        let refused = match self.upload_one_time_keys(device, one_time).await {
            Err(Error::KeyExists(key_id)) => Err(Error::KeyExists(key_id)),
            taken => Ok(taken?),
        };
        self.set_fallback_keys(device, fallback).await?;
        if let Some(keys) = device_keys {
            self.set_device_keys(device, keys).await?;
        }
        refused
    }

    /// Sets a device's identity keys.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoDevice`].
    pub async fn set_device_keys(&self, device: DeviceRef<'_>, keys: Vec<u8>) -> Result<(), Error> {
        check(keys.len())?;
        let DeviceRef { tenant, user_id, device_id, .. } = device;
        let place = device.place();
        let now = self.entry(tenant, user_id, (kind::DEVICE_KEYS, "", &place)).await?;
        if decode(now.as_ref())?.is_some_and(|now| now.device_id == device_id && now.keys == keys) {
            return self.devices_acknowledged(tenant, user_id, false).await;
        }
        let keys = DeviceKeys { device_id: device_id.to_owned(), keys, signatures: BTreeMap::new() };
        let set = Change::set(kind::DEVICE_KEYS, "", &place, &keys)?;
        self.change_of(device, vec![set, jobs::owe(jobs::LISTS)]).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// The identity keys of a user's devices, with the signatures that the user added since.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
    ) -> Result<Vec<(OwnedDeviceId, Map<String, Value>)>, Error> {
        let mut out = Vec::new();
        for entry in record::entries(&*self.store, tenant, user_id, kind::DEVICE_KEYS, None).await? {
            let Some(DeviceKeys { device_id, keys, signatures }) = decode(Some(&entry))? else { continue };
            // What is no object is nobody's key.
            let Ok(mut keys) = serde_json::from_slice(&keys) else { continue };
            add_signatures(&mut keys, user_id, signatures);
            out.push((device_id, keys));
        }
        Ok(out)
    }

    /// A device's keys as it uploaded them.
    pub(crate) async fn keys_of_device(&self, device: DeviceRef<'_>) -> Result<Option<Vec<u8>>, Error> {
        let entry = self.entry(device.tenant, device.user_id, (kind::DEVICE_KEYS, "", &device.place())).await?;
        Ok(decode(entry.as_ref())?.filter(|found| found.device_id == device.device_id).map(|found| found.keys))
    }

    /// Adds signatures that the user made on these keys of a device. Says whether there was one to add.
    pub(crate) async fn sign_device(&self, device: DeviceRef<'_>, keys: &[u8], made: &Made) -> Result<bool, Error> {
        let place = device.place();
        let name = (kind::DEVICE_KEYS, "", place.as_str());
        self.update(device.tenant, device.user_id, name, Some(device.alive()), |entry| {
            // Others by now: the signatures say nothing about them.
            let now = decode(entry.as_ref())?.filter(|now| now.device_id == device.device_id && now.keys == keys);
            let mut now = now.ok_or(Error::NotSignable)?;
            if !made.add_to(&mut now.signatures)? {
                return Ok((false, Vec::new()));
            }
            Ok((true, vec![Change::set(kind::DEVICE_KEYS, "", &place, &now)?, jobs::owe(jobs::LISTS)]))
        })
        .await
    }
}

fn decode(entry: Option<&record::Entry>) -> Result<Option<DeviceKeys>, Error> {
    Ok(entry.map(record::Entry::decode).transpose()?.flatten())
}

impl Made {
    /// Puts the signatures to others, of which those go that were made with keys that are gone; says whether there are new ones.
    pub(crate) fn add_to(&self, to: &mut Signatures) -> Result<bool, Error> {
        if self.made.iter().all(|(id, signature)| to.get(id) == Some(signature)) {
            return Ok(false);
        }
        to.retain(|id, _| self.known.contains(id));
        to.extend(self.made.clone());
        let bytes = to.iter().map(|(id, signature)| id.len() + signature.len()).sum();
        check(bytes).map(|()| true)
    }
}

/// Whether keys (or signatures) of so many bytes aren't too large.
pub(crate) fn check(bytes: usize) -> Result<(), Error> {
    if bytes > KEYS_MAX { Err(Error::TooLarge(format!("keys have at most {KEYS_MAX} bytes"))) } else { Ok(()) }
}
