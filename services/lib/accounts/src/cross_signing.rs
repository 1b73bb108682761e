//! Cross-signing: the keys of users, and the signatures on keys.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeSet;

use polity_core::TenantId;
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value};

use crate::{
    Accounts, Change, Error, jobs,
    keys::check,
    record::{self, kind},
};

/// Keys that one upload signs.
const SIGNED: usize = 1000;
/// The key that stands for all three when it is looked at whether they were changed.
const MASTER: (&str, &str, &str) = (kind::CROSS_SIGNING, "", "master");

/// A cross-signing key to be set.
#[derive(Debug, Clone)]
pub struct CrossSigningKey {
    /// `master`, `self_signing` or `user_signing`.
    pub usage: &'static str,
    /// The key, as the client signed it.
    pub key: Value,
}

impl Accounts {
    /// Sets cross-signing keys. The first ones need no proof of who asks, and the same again neither; a replacement does: without
    /// `proven` it is refused.
    ///
    /// # Errors
    /// [`Error::Unproven`], [`Error::TooLarge`], [`Error::Invalid`] for what is no such key of this user,
    /// [`Error::NoMasterKey`] for others without one.
    pub async fn set_cross_signing(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        keys: &[CrossSigningKey],
        proven: bool,
    ) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(keys.len() + 2);
        for CrossSigningKey { usage, key } in keys {
            let has_usage = key["usage"].as_array().is_some_and(|usages| usages.iter().any(|has| has == usage));
            if key["user_id"] != user_id.as_str() || !has_usage || public_key(key).is_none() {
                return Err(Error::Invalid(format!("that is no {usage} key of {user_id}")));
            }
            let bytes = key.to_string().into_bytes();
            check(&bytes)?;
            changes.push(Change::new(kind::CROSS_SIGNING, "", usage, Some(bytes)));
        }
        let mut now = Vec::with_capacity(keys.len());
        for CrossSigningKey { usage, .. } in keys {
            now.push(self.cross_signing_key(tenant, user_id, usage).await?);
        }
        // On the master key as it is: of two first uploads at once the second one is a replacement.
        let changed = self.update(tenant, user_id, MASTER, None, |master| {
            let master: Option<Value> = master.and_then(|entry| serde_json::from_slice(entry.value.as_deref()?).ok());
            let given = keys.iter().find(|key| key.usage == "master").map(|key| &key.key);
            let same = |(given, now): (&CrossSigningKey, &Option<Value>)| {
                now.as_ref().is_some_and(|now| content(now.clone()) == content(given.key.clone()))
            };
            let unchanged = keys.iter().zip(&now).all(same);
            let Some(stands) = given.or(master.as_ref()) else { return Err(Error::NoMasterKey) };
            if unchanged && master.is_some() {
                return Ok((false, Vec::new()));
            }
            if master.is_some() && !proven {
                return Err(Error::Unproven);
            }
            // Written each time, so that whoever worked it out from the one before works it out again.
            let stands = Change::new(kind::CROSS_SIGNING, "", "master", Some(stands.to_string().into_bytes()));
            let others = changes.iter().filter(|change| change.key != "master").cloned();
            Ok((true, [stands, jobs::owe(jobs::LISTS)].into_iter().chain(others).collect()))
        });
        if changed.await? { self.devices_changed(tenant, user_id).await } else { Ok(()) }
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
        if let Some(name) = public_key(&key).map(str::to_owned)
            && let Some(key) = key.as_object_mut()
        {
            let signatures = self.signatures(tenant, user_id, viewer).await?;
            add_signatures(key, &signatures, &name);
        }
        Ok(Some(key))
    }

    async fn cross_signing_key(&self, tenant: TenantId, user_id: &UserId, usage: &str) -> Result<Option<Value>, Error> {
        let entry = self.entry(tenant, user_id, (kind::CROSS_SIGNING, "", usage)).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(entry.value.as_deref()?).ok()))
    }

    /// Adds signatures that `signer` made on keys of `user_id`: by the signed key's name (a device id or a public key). One's own
    /// devices and master key can be signed, and others' master keys. Those that can't be taken are given back, each with why:
    /// [`Error::Invalid`] when it is no signature by `signer` of a key as it is here, [`Error::NotSignable`], [`Error::TooLarge`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] for too many, and when the store can't be read or written.
    pub async fn add_signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        signed: Vec<(String, Value)>,
    ) -> Result<Vec<(String, Error)>, Error> {
        if signed.len() > SIGNED {
            return Err(Error::TooLarge(format!("more than {SIGNED} signed keys at once")));
        }
        let (mut failures, mut changed) = (Vec::new(), false);
        for (name, object) in signed {
            match self.add_signature(tenant, user_id, signer, (&name, object)).await {
                Ok(new) => changed |= new,
                Err(error @ (Error::Invalid(_) | Error::NotSignable | Error::TooLarge(_) | Error::NoAccount)) => {
                    failures.push((name, error))
                }
                Err(error) => return Err(error),
            }
        }
        if changed {
            self.devices_changed(tenant, user_id).await?;
        }
        Ok(failures)
    }

    /// Says whether the signature is a new one.
    async fn add_signature(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        (name, object): (&str, Value),
    ) -> Result<bool, Error> {
        let key = self.signable(tenant, user_id, signer, name).await?.ok_or(Error::NotSignable)?;
        if content(key) != content(object.clone()) {
            return Err(Error::Invalid("the signed key is another one".to_owned()));
        }
        match &object["signatures"][signer.as_str()] {
            Value::Object(made) if !made.is_empty() && made.values().all(Value::is_string) => {
                self.merge_signatures(tenant, user_id, signer, (name, made)).await
            }
            _ => Err(Error::Invalid("there is no signature of yours".to_owned())),
        }
    }

    /// Adds to the signatures that there are: several devices of one user may sign one key. Says whether there was one to add.
    async fn merge_signatures(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        (name, made): (&str, &Map<String, Value>),
    ) -> Result<bool, Error> {
        self.update(tenant, user_id, (kind::SIGNATURES, signer.as_str(), name), None, |entry| {
            let now =
                entry.and_then(|entry| serde_json::from_slice::<Map<String, Value>>(entry.value.as_deref()?).ok());
            let now = now.unwrap_or_default();
            let mut all = now.clone();
            all.extend(made.clone());
            if all == now {
                return Ok((false, Vec::new()));
            }
            let all = Value::Object(all).to_string().into_bytes();
            check(&all)?;
            let set = Change::new(kind::SIGNATURES, signer.as_str(), name, Some(all));
            Ok((true, vec![set, jobs::owe(jobs::LISTS)]))
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
    pub(crate) async fn signatures(
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

pub(crate) fn add_signatures(key: &mut Map<String, Value>, signatures: &[(OwnedUserId, String, Value)], name: &str) {
    for (signer, _, made) in signatures.iter().filter(|(_, signed, _)| signed == name) {
        for (id, signature) in made.as_object().into_iter().flatten() {
            // What the client put there may have any shape.
            let all = key.entry("signatures").or_insert_with(|| Map::new().into());
            let Some(all) = all.as_object_mut() else { return };
            let own = all.entry(signer.as_str()).or_insert_with(|| Map::new().into());
            if let Some(own) = own.as_object_mut() {
                own.insert(id.clone(), signature.clone());
            }
        }
    }
}
