//! Identity keys of devices, as JSON that clients signed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-keys>

use polity_core::TenantId;
use ruma_common::{OwnedDeviceId, UserId};
use serde_json::{Map, Value};

use crate::{
    Accounts, Change, DeviceRef, Error,
    cross_signing::add_signatures,
    jobs,
    record::{self, kind},
};

/// Keys of one upload have at most this many bytes.
const KEYS_MAX: usize = 64 * 1024;

impl Accounts {
    /// Sets a device's identity keys.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoDevice`].
    pub async fn set_device_keys(&self, device: DeviceRef<'_>, keys: Vec<u8>) -> Result<(), Error> {
        check(&keys)?;
        let DeviceRef { tenant, user_id, device_id, .. } = device;
        let now = self.entry(tenant, user_id, (kind::DEVICE_KEYS, "", device_id.as_str())).await?;
        if now.is_some_and(|entry| entry.value.as_ref() == Some(&keys)) {
            return Ok(());
        }
        // Signatures on other keys of that device say nothing about these.
        let unsigned = Change::new(kind::SIGNATURES, user_id.as_str(), device_id.as_str(), None);
        let set = Change::new(kind::DEVICE_KEYS, "", device_id.as_str(), Some(keys));
        self.change_of(device, vec![set, unsigned, jobs::owe(jobs::LISTS)]).await?;
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
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE_KEYS, None).await?;
        let signatures = self.signatures(tenant, user_id, user_id).await?;
        let with = |entry: record::Entry| {
            // What is no object is nobody's key.
            let mut keys = serde_json::from_slice(entry.value.as_deref()?).ok()?;
            add_signatures(&mut keys, &signatures, &entry.key);
            Some((OwnedDeviceId::from(entry.key), keys))
        };
        Ok(entries.into_iter().filter_map(with).collect())
    }
}

/// Whether keys (or signatures) aren't too large.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > KEYS_MAX { Err(Error::TooLarge(format!("keys have at most {KEYS_MAX} bytes"))) } else { Ok(()) }
}
