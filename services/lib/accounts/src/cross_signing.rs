//! Cross-signing: the keys of users, and the signatures on keys.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeSet;

use polity_core::TenantId;
use polity_room_engine::signed_json::SignedBytes;
use ruma_common::{DeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Accounts, Change, Device, DeviceRef, Entry, Error, jobs,
    keys::{Made, Signatures, check},
    record::{self, kind},
};

/// Keys that one upload signs.
const SIGNED: usize = 1000;
/// Letters of a public key in base64, without padding.
const PUBLIC: usize = 43;
/// The key that stands for all three when it is looked at whether they were changed.
const MASTER: (&str, &str, &str) = (kind::CROSS_SIGNING, "", "master");

/// Signatures on a user's master key: on the last one that was signed. They stand in the record of who made them, who alone sees those
/// of others, and count as what that user keeps: nobody's record grows by what others do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct OnMaster {
    public: String,
    made: Signatures,
    /// It is another user's key, and those who share rooms with that one may not have been told.
    untold: bool,
}

/// The entry, in the record of who signed, about the master key of `user_id`.
fn on_master(user_id: &UserId) -> (&'static str, &str, &'static str) {
    (kind::SIGNATURES, user_id.as_str(), "master")
}

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
    /// [`Error::NoMasterKey`] for others without one, [`Error::InvalidSignature`] for those that it didn't sign.
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
            if key["user_id"] != user_id.as_str() || !has_usage || !is_named_by_itself(key) {
                return Err(Error::Invalid(format!("that is no {usage} key of {user_id}")));
            }
            let bytes = key.to_string().into_bytes();
            check(bytes.len())?;
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
            let signed = |key: &CrossSigningKey| key.usage == "master" || is_signed_by(&key.key, user_id, stands);
            if let Some(key) = keys.iter().find(|key| !signed(key)) {
                return Err(Error::InvalidSignature(format!("the {} key isn't signed by the master key", key.usage)));
            }
            if master.is_some() && !proven {
                return Err(Error::Unproven);
            }
            // Written each time, so that whoever worked it out from the one before works it out again.
            let stands = Change::new(kind::CROSS_SIGNING, "", "master", Some(stands.to_string().into_bytes()));
            let others = changes.iter().filter(|change| change.key != "master").cloned();
            Ok((true, [stands, jobs::owe(jobs::LISTS)].into_iter().chain(others).collect()))
        });
        let new = changed.await?;
        self.devices_acknowledged(tenant, user_id, new).await
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
        // No other is signed later.
        if usage == "master"
            && let Some(name) = public_key(&key).map(|(_, public)| public.to_owned())
            && let Some(key) = key.as_object_mut()
        {
            for signer in BTreeSet::from([user_id, viewer]) {
                let entry = self.entry(tenant, signer, on_master(user_id)).await?;
                let signed: Option<OnMaster> = entry.map(|entry| entry.decode()).transpose()?.flatten();
                let made = signed.filter(|signed| signed.public == name).map(|signed| signed.made);
                add_signatures(key, signer, made.unwrap_or_default());
            }
        }
        Ok(Some(key))
    }

    async fn cross_signing_key(&self, tenant: TenantId, user_id: &UserId, usage: &str) -> Result<Option<Value>, Error> {
        let entry = self.entry(tenant, user_id, (kind::CROSS_SIGNING, "", usage)).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(entry.value.as_deref()?).ok()))
    }

    /// Adds signatures that `signer` made on keys of `user_id`: by the signed key's name (a device id or a public key). One's own
    /// devices and master key can be signed, and others' master keys. Those that can't be taken are given back, each with why:
    /// [`Error::Invalid`] when it is another key than the one here, [`Error::InvalidSignature`], [`Error::NotSignable`],
    /// [`Error::TooLarge`].
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
        // Whether any was taken, and whether that one was new.
        let (mut failures, mut taken) = (Vec::new(), None);
        for (name, object) in signed {
            match self.add_signature(tenant, user_id, signer, (&name, object)).await {
                Ok(new) => taken = taken.max(Some(new)),
                Err(
                    error @ (Error::Invalid(_)
                    | Error::InvalidSignature(_)
                    | Error::NotSignable
                    | Error::NoDevice
                    | Error::TooLarge(_)
                    | Error::Full
                    | Error::NoAccount),
                ) => failures.push((name, error)),
                Err(error) => return Err(error),
            }
        }
        match taken {
            Some(new) if signer == user_id => self.devices_acknowledged(tenant, user_id, new).await?,
            // Also if none is new: the entry that has them says whether anybody was told.
            Some(_) => self.tell_signed(tenant, signer, user_id).await?,
            None => {}
        }
        Ok(failures)
    }

    /// Tells the tenant that a user's master key was signed, if the signer's record says that this isn't done yet.
    async fn tell_signed(&self, tenant: TenantId, signer: &UserId, user_id: &UserId) -> Result<(), Error> {
        let untold = |entry: &Entry| Ok::<_, Error>(entry.decode::<OnMaster>()?.filter(|signed| signed.untold));
        let Some(entry) = self.entry(tenant, signer, on_master(user_id)).await? else { return Ok(()) };
        if untold(&entry)?.is_none() {
            return Ok(());
        }
        self.tell_lists(tenant, user_id).await?;
        let (kind, scope, key) = on_master(user_id);
        self.update(tenant, signer, on_master(user_id), None, |now| {
            // Signed again since: that is told by who did it.
            let Some(now) = now.filter(|now| now.seq == entry.seq) else { return Ok(((), Vec::new())) };
            let told = untold(&now)?.map(|signed| OnMaster { untold: false, ..signed });
            let told = told.map(|told| Change::set(kind, scope, key, &told)).transpose()?;
            Ok(((), told.into_iter().collect()))
        })
        .await
    }

    /// Tells the tenant of all keys that a user has signed and nobody was told of yet.
    pub(crate) async fn tell_all_signed(&self, tenant: TenantId, signer: &UserId) -> Result<(), Error> {
        for entry in record::entries(&*self.store, tenant, signer, kind::SIGNATURES, None).await? {
            if let Ok(user_id) = OwnedUserId::try_from(entry.scope) {
                self.tell_signed(tenant, signer, &user_id).await?;
            }
        }
        Ok(())
    }

    /// Says whether the signature is a new one.
    pub(crate) async fn add_signature(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        signer: &UserId,
        (name, object): (&str, Value),
    ) -> Result<bool, Error> {
        let device = self.device(tenant, user_id, <&DeviceId>::from(name)).await?.filter(|_| signer == user_id);
        if let Some(Device { device_id, life, .. }) = &device {
            let device = DeviceRef { tenant, user_id, device_id, life: *life };
            if let Some(keys) = self.keys_of_device(device).await? {
                let key: Value = serde_json::from_slice(&keys).map_err(|_| Error::NotSignable)?;
                let made = self.made_by(tenant, signer, (&key, &object), &["self_signing"]).await?;
                return self.sign_device(device, &keys, &made).await;
            }
        }
        let master = self.cross_signing_key(tenant, user_id, "master").await?;
        let master = master.filter(|master| public_key(master).is_some_and(|(_, public)| public == name));
        let master = master.ok_or(Error::NotSignable)?;
        // One's own by one's devices, others' by the key for that.
        let by: &[_] = if signer == user_id { &[] } else { &["user_signing"] };
        let made = self.made_by(tenant, signer, (&master, &object), by).await?;
        let (kind, scope, key) = on_master(user_id);
        let untold = signer != user_id;
        self.update(tenant, signer, on_master(user_id), None, |entry| {
            let before: Option<OnMaster> = entry.map(|entry| entry.decode()).transpose()?.flatten();
            let before = before.filter(|before| before.public == name).unwrap_or_default();
            let mut now = OnMaster { public: name.to_owned(), made: before.made, untold };
            if !made.add_to(&mut now.made)? {
                return Ok((false, Vec::new()));
            }
            let owed = if untold { jobs::SIGNED } else { jobs::LISTS };
            Ok((true, vec![Change::set(kind, scope, key, &now)?, jobs::owe(owed)]))
        })
        .await
    }

    /// The signatures that `signer` made on `key` with cross-signing keys of these usages; without any, with devices' keys. Those by
    /// other keys are passed over: who signs a device repeats its own signature.
    async fn made_by(
        &self,
        tenant: TenantId,
        signer: &UserId,
        (key, signed): (&Value, &Value),
        usages: &[&str],
    ) -> Result<Made, Error> {
        if content(key.clone()) != content(signed.clone()) {
            return Err(Error::Invalid("the signed key is another one".to_owned()));
        }
        let mut known = Signatures::new();
        for usage in usages {
            let key = self.cross_signing_key(tenant, signer, usage).await?;
            known.extend(key.as_ref().and_then(public_key).map(|(id, public)| (id.to_owned(), public.to_owned())));
        }
        if usages.is_empty() {
            for (device_id, keys) in self.device_keys(tenant, signer).await? {
                let id = format!("ed25519:{device_id}");
                let public = keys.get("keys").and_then(|keys| keys[&id].as_str()).map(str::to_owned);
                known.extend(public.map(|public| (id, public)));
            }
        }
        let bytes = SignedBytes::of(signed).ok_or_else(|| Error::Invalid("that is no canonical JSON".to_owned()))?;
        let mut made = Signatures::new();
        for (id, signature) in signed["signatures"][signer.as_str()].as_object().into_iter().flatten() {
            let Some(public) = known.get(id) else { continue };
            let signature = signature.as_str().filter(|signature| bytes.are_signed(public, signature));
            let signature =
                signature.ok_or_else(|| Error::InvalidSignature(format!("the signature by {id} is wrong")))?;
            made.insert(id.clone(), signature.to_owned());
        }
        if made.is_empty() {
            return Err(Error::InvalidSignature(format!(
                "there is no signature by a key of {signer} that may sign it"
            )));
        }
        Ok(Made { known: known.into_keys().collect(), made })
    }
}

/// The id and the public key of a cross-signing key: it has one.
fn public_key(key: &Value) -> Option<(&str, &str)> {
    let keys = key["keys"].as_object()?;
    let (id, public) = keys.iter().next().filter(|_| keys.len() == 1)?;
    Some((id, public.as_str()?))
}

/// Whether a key's id is made of the public key, as it must be: so both have an end.
fn is_named_by_itself(key: &Value) -> bool {
    public_key(key).is_some_and(|(id, public)| id.strip_prefix("ed25519:") == Some(public) && public.len() == PUBLIC)
}

/// Whether a user's key is signed by the user's master key.
fn is_signed_by(key: &Value, user_id: &UserId, master: &Value) -> bool {
    let signed = || {
        let (id, public) = public_key(master)?;
        let signature = key["signatures"][user_id.as_str()][id].as_str()?;
        Some(SignedBytes::of(key)?.are_signed(public, signature))
    };
    signed().unwrap_or(false)
}

/// What is signed.
fn content(mut key: Value) -> Value {
    if let Some(key) = key.as_object_mut() {
        key.remove("signatures");
        key.remove("unsigned");
    }
    key
}

/// Shows signatures that were added to a key.
pub(crate) fn add_signatures(key: &mut Map<String, Value>, signer: &UserId, made: Signatures) {
    for (id, signature) in made {
        // What the client put there may have any shape.
        let all = key.entry("signatures").or_insert_with(|| Map::new().into());
        let Some(all) = all.as_object_mut() else { return };
        let own = all.entry(signer.as_str()).or_insert_with(|| Map::new().into());
        if let Some(own) = own.as_object_mut() {
            own.insert(id, signature.into());
        }
    }
}
