//! Identity keys: of devices and of users (cross-signing), as JSON that clients signed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

use polity_core::TenantId;
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::Value;

use crate::{
    Accounts, Change, Error,
    record::{self, kind},
};

/// Keys of one upload have at most this many bytes.
const KEYS_MAX: usize = 64 * 1024;

impl Accounts {
    /// Sets a device's identity keys.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub async fn set_device_keys(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        keys: Vec<u8>,
    ) -> Result<(), Error> {
        check(&keys)?;
        let now = self.entry(tenant, user_id, (kind::DEVICE_KEYS, "", device_id.as_str())).await?;
        if now.is_some_and(|entry| entry.value.as_ref() == Some(&keys)) {
            return Ok(());
        }
        let change = Change::new(kind::DEVICE_KEYS, "", device_id.as_str(), Some(keys));
        self.change(tenant, user_id, vec![change]).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// The identity keys of a user's devices, with the signatures added since.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_keys(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<(OwnedDeviceId, Value)>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE_KEYS, None).await?;
        let signatures = self.signatures(tenant, user_id).await?;
        let with = |entry: record::Entry| {
            let mut keys: Value = serde_json::from_slice(entry.value.as_deref()?).ok()?;
            add_signatures(&mut keys, &signatures, &entry.key);
            Some((OwnedDeviceId::from(entry.key), keys))
        };
        Ok(entries.into_iter().filter_map(with).collect())
    }

    /// Sets cross-signing keys: pairs of `master`, `self_signing` or `user_signing` and the key.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub async fn set_cross_signing(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        keys: Vec<(&str, Vec<u8>)>,
    ) -> Result<(), Error> {
        for (_, key) in &keys {
            check(key)?;
        }
        let changes = keys.into_iter().map(|(usage, key)| Change::new(kind::CROSS_SIGNING, "", usage, Some(key)));
        self.change(tenant, user_id, changes.collect()).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// A cross-signing key, with the signatures added since.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn cross_signing(&self, tenant: TenantId, user_id: &UserId, usage: &str) -> Result<Option<Value>, Error> {
        let entry = self.entry(tenant, user_id, (kind::CROSS_SIGNING, "", usage)).await?;
        let key = entry.and_then(|entry| serde_json::from_slice::<Value>(entry.value.as_deref()?).ok());
        let Some(mut key) = key else { return Ok(None) };
        let signatures = self.signatures(tenant, user_id).await?;
        let names: Vec<String> = key["keys"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| id.as_str().map(str::to_owned))
            .collect();
        for name in names {
            add_signatures(&mut key, &signatures, &name);
        }
        Ok(Some(key))
    }

    /// Adds signatures that `signer` made on keys of `user_id`: by the signed key's name (a device id or a public key).
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub async fn add_signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        signed: Vec<(String, Value)>,
    ) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(signed.len());
        for (name, object) in signed {
            let made = object["signatures"][signer.as_str()].to_string().into_bytes();
            check(&made)?;
            changes.push(Change::new(kind::SIGNATURES, signer.as_str(), &name, Some(made)));
        }
        self.change(tenant, user_id, changes).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// Signatures on a user's keys: signer, name of the key, signatures by key id.
    async fn signatures(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<(OwnedUserId, String, Value)>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::SIGNATURES, None).await?;
        let read = |entry: record::Entry| {
            let value = serde_json::from_slice(entry.value.as_deref()?).ok()?;
            Some((OwnedUserId::try_from(entry.scope).ok()?, entry.key, value))
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }
}

fn check(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > KEYS_MAX { Err(Error::TooLarge(format!("keys have at most {KEYS_MAX} bytes"))) } else { Ok(()) }
}

fn add_signatures(key: &mut Value, signatures: &[(OwnedUserId, String, Value)], name: &str) {
    for (signer, _, made) in signatures.iter().filter(|(_, signed, _)| signed == name) {
        for (id, signature) in made.as_object().into_iter().flatten() {
            key["signatures"][signer.as_str()][id] = signature.clone();
        }
    }
}
