//! Identity keys: of devices and of users (cross-signing), as JSON that clients signed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

use std::collections::BTreeSet;

use polity_core::TenantId;
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Map, Value};

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
        if now.is_none_or(|entry| entry.value.as_ref() != Some(&keys)) {
            // Signatures on other keys of that device say nothing about these.
            let unsigned = Change::new(kind::SIGNATURES, user_id.as_str(), device_id.as_str(), None);
            let set = Change::new(kind::DEVICE_KEYS, "", device_id.as_str(), Some(keys));
            self.change(tenant, user_id, vec![set, unsigned]).await?;
        }
        // Told also when nothing changed: a client repeats an upload whose answer it didn't get, perhaps since nobody was told.
        self.devices_changed(tenant, user_id).await
    }

    /// The identity keys of a user's devices, with the signatures that the user added since.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_keys(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<(OwnedDeviceId, Value)>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE_KEYS, None).await?;
        let signatures = self.signatures(tenant, user_id, user_id).await?;
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
    /// [`Error::TooLarge`], [`Error::Invalid`] for what is no such key of this user.
    pub async fn set_cross_signing(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        keys: Vec<(&str, Vec<u8>)>,
    ) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(keys.len());
        for (usage, key) in keys {
            check(&key)?;
            let value: Value = serde_json::from_slice(&key).unwrap_or_default();
            let has_usage = value["usage"].as_array().is_some_and(|usages| usages.iter().any(|has| has == usage));
            if value["user_id"] != user_id.as_str() || !has_usage || public_key(&value).is_none() {
                return Err(Error::Invalid(format!("that is no {usage} key of {user_id}")));
            }
            changes.push(Change::new(kind::CROSS_SIGNING, "", usage, Some(key)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.change(tenant, user_id, changes).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// A cross-signing key, with the signatures added since that `viewer` may see: the owner's and the viewer's own. Whom else
    /// somebody has verified is nobody's business.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn cross_signing(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        usage: &str,
        viewer: &UserId,
    ) -> Result<Option<Value>, Error> {
        let Some(mut key) = self.cross_signing_key(tenant, user_id, usage).await? else { return Ok(None) };
        if let Some(name) = public_key(&key).map(str::to_owned) {
            let signatures = self.signatures(tenant, user_id, viewer).await?;
            add_signatures(&mut key, &signatures, &name);
        }
        Ok(Some(key))
    }

    async fn cross_signing_key(&self, tenant: TenantId, user_id: &UserId, usage: &str) -> Result<Option<Value>, Error> {
        let entry = self.entry(tenant, user_id, (kind::CROSS_SIGNING, "", usage)).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(entry.value.as_deref()?).ok()))
    }

    /// Adds signatures that `signer` made on keys of `user_id`: by the signed key's name (a device id or a public key). One's own
    /// devices and master key can be signed, and others' master keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one of them is no signature by `signer` of a key as it is here; nothing was added then.
    /// [`Error::TooLarge`].
    pub async fn add_signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        signed: Vec<(String, Value)>,
    ) -> Result<(), Error> {
        let mut checked = Vec::with_capacity(signed.len());
        for (name, object) in signed {
            let key = self.signable(tenant, user_id, signer, &name).await?;
            let invalid = |what| Err(Error::Invalid(format!("{name} of {user_id}: {what}")));
            let Some(key) = key else { return invalid("there is no such key to sign") };
            if content(key) != content(object.clone()) {
                return invalid("the signed key is another one");
            }
            match &object["signatures"][signer.as_str()] {
                Value::Object(made) if !made.is_empty() && made.values().all(Value::is_string) => {
                    checked.push((name, made.clone()));
                }
                _ => return invalid("there is no signature of yours"),
            }
        }
        for (name, made) in &checked {
            self.merge_signatures(tenant, user_id, signer, (name, made)).await?;
        }
        if checked.is_empty() { Ok(()) } else { self.devices_changed(tenant, user_id).await }
    }

    /// Adds to the signatures that there are: several devices of one user may sign one key.
    async fn merge_signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        (name, made): (&str, &Map<String, Value>),
    ) -> Result<(), Error> {
        self.update(tenant, user_id, (kind::SIGNATURES, signer.as_str(), name), |entry| {
            let now =
                entry.and_then(|entry| serde_json::from_slice::<Map<String, Value>>(entry.value.as_deref()?).ok());
            let now = now.unwrap_or_default();
            let mut all = now.clone();
            all.extend(made.clone());
            if all == now {
                return Ok(((), Vec::new()));
            }
            let all = Value::Object(all).to_string().into_bytes();
            check(&all)?;
            Ok(((), vec![Change::new(kind::SIGNATURES, signer.as_str(), name, Some(all))]))
        })
        .await
    }

    /// The key of that name that `signer` may sign.
    async fn signable(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        name: &str,
    ) -> Result<Option<Value>, Error> {
        if signer == user_id {
            let device = self.entry(tenant, user_id, (kind::DEVICE_KEYS, "", name)).await?;
            let device = device.and_then(|entry| serde_json::from_slice(entry.value.as_deref()?).ok());
            if device.is_some() {
                return Ok(device);
            }
        }
        let master = self.cross_signing_key(tenant, user_id, "master").await?;
        Ok(master.filter(|master| public_key(master) == Some(name)))
    }

    /// Signatures on a user's keys that `viewer` may see: signer, name of the key, signatures by key id.
    async fn signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        viewer: &UserId,
    ) -> Result<Vec<(OwnedUserId, String, Value)>, Error> {
        let mut out = Vec::new();
        for signer in BTreeSet::from([user_id, viewer]) {
            let scope = Some(signer.as_str());
            for entry in record::entries(&*self.store, tenant, user_id, kind::SIGNATURES, scope).await? {
                let made = entry.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
                out.extend(made.map(|made| (signer.to_owned(), entry.key, made)));
            }
        }
        Ok(out)
    }
}

fn check(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > KEYS_MAX { Err(Error::TooLarge(format!("keys have at most {KEYS_MAX} bytes"))) } else { Ok(()) }
}

/// The public key of a cross-signing key: it has one.
fn public_key(key: &Value) -> Option<&str> {
    let keys = key["keys"].as_object()?;
    keys.values().next().filter(|_| keys.len() == 1)?.as_str()
}

/// What is signed.
fn content(mut key: Value) -> Value {
    if let Some(key) = key.as_object_mut() {
        key.remove("signatures");
        key.remove("unsigned");
    }
    key
}

fn add_signatures(key: &mut Value, signatures: &[(OwnedUserId, String, Value)], name: &str) {
    for (signer, _, made) in signatures.iter().filter(|(_, signed, _)| signed == name) {
        for (id, signature) in made.as_object().into_iter().flatten() {
            // A client's own upload may have any shape.
            let Some(key) = key.as_object_mut() else { return };
            let all = key.entry("signatures").or_insert_with(|| Map::new().into());
            let Some(all) = all.as_object_mut() else { return };
            let own = all.entry(signer.as_str()).or_insert_with(|| Map::new().into());
            if let Some(own) = own.as_object_mut() {
                own.insert(id.clone(), signature.clone());
            }
        }
    }
}
