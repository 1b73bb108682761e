//! Fallback keys, for when no one-time key is left: handed out again and again, and marked as used.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>

use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, DeviceRef, Error, OneTimeKey,
    one_time::{ALGORITHMS, by_algorithm},
    record::{self, Entry, kind},
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fallback {
    key_id: String,
    key: Vec<u8>,
    used: bool,
}

impl Fallback {
    fn of(entry: Option<Entry>) -> Result<Option<Self>, Error> {
        Ok(entry.map(|entry| entry.decode()).transpose()?.flatten())
    }
}

impl Accounts {
    /// Sets a device's fallback keys. The same key again is no change: it stays used if it was.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoDevice`].
    pub async fn set_fallback_keys(&self, device: DeviceRef<'_>, keys: Vec<OneTimeKey>) -> Result<(), Error> {
        for (algorithm, keys) in by_algorithm(keys)? {
            // The spec allows one of each algorithm.
            let Some(OneTimeKey { key_id, key, .. }) = keys.into_iter().next() else { continue };
            let known = self.noted(device, kind::FALLBACK).await?;
            if known.iter().filter(|known| **known != algorithm).count() >= ALGORITHMS {
                return Err(Error::TooLarge(format!("a device has keys of at most {ALGORITHMS} algorithms")));
            }
            let scope = device.name();
            let (name, alive) = ((kind::FALLBACK, scope.as_str(), algorithm.as_str()), Some(device.alive()));
            self.update(device.tenant, device.user_id, name, alive, |entry| {
                if Fallback::of(entry)?.is_some_and(|now| now.key_id == key_id && now.key == key) {
                    return Ok(((), Vec::new()));
                }
                let fallback = Fallback { key_id: key_id.clone(), key: key.clone(), used: false };
                Ok(((), vec![Change::set(kind::FALLBACK, &scope, &algorithm, &fallback)?]))
            })
            .await?;
        }
        Ok(())
    }

    /// A device's fallback key, which is used from now on.
    pub(crate) async fn claim_fallback_key(
        &self,
        device: DeviceRef<'_>,
        algorithm: &str,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        let scope = device.name();
        let claimed = self.update(
            device.tenant,
            device.user_id,
            (kind::FALLBACK, &scope, algorithm),
            Some(device.alive()),
            |entry| {
                let Some(fallback) = Fallback::of(entry)? else { return Ok((None, Vec::new())) };
                let given = Some((fallback.key_id.clone(), fallback.key.clone()));
                if fallback.used {
                    return Ok((given, Vec::new()));
                }
                let used = Fallback { used: true, ..fallback };
                Ok((given, vec![Change::set(kind::FALLBACK, &scope, algorithm, &used)?]))
            },
        );
        match claimed.await {
            Err(Error::NoDevice) => Ok(None),
            other => other,
        }
    }

    /// The algorithms of which a device has a fallback key that nobody was given yet.
    pub(crate) async fn unused_fallback_keys(&self, device: DeviceRef<'_>) -> Result<Vec<String>, Error> {
        let (name, store) = (device.name(), &*self.store);
        let mut unused = Vec::new();
        for entry in record::entries(store, device.tenant, device.user_id, kind::FALLBACK, Some(&name)).await? {
            if entry.decode::<Fallback>()?.is_some_and(|fallback| !fallback.used) {
                unused.push(entry.key);
            }
        }
        Ok(unused)
    }
}
