//! Fallback keys, for when no one-time key is left: handed out again and again, and marked as used.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Accounts, DeviceRef, Error, OneTimeKey,
    one_time::{ALGORITHMS, by_algorithm},
    record::kind,
    shelf,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fallback {
    key_id: String,
    key: Vec<u8>,
    used: bool,
}

/// A device's, by algorithm.
type Fallbacks = BTreeMap<String, Fallback>;

impl Accounts {
    /// Sets a device's fallback keys. The same key again is no change: it stays used if it was.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoDevice`].
    pub async fn set_fallback_keys(&self, device: DeviceRef<'_>, keys: Vec<OneTimeKey>) -> Result<(), Error> {
        // The spec allows one of each algorithm.
        let first = |(algorithm, keys): (String, Vec<OneTimeKey>)| Some((algorithm, keys.into_iter().next()?));
        let given: Vec<(String, OneTimeKey)> = by_algorithm(keys)?.into_iter().filter_map(first).collect();
        if given.is_empty() {
            return Ok(());
        }
        let place = device.place();
        let (name, alive) = ((kind::FALLBACK, "", place.as_str()), Some(device.alive()));
        self.update(device.tenant, device.user_id, name, alive, |entry| {
            let mut all: Fallbacks = shelf::of_life(entry.as_ref(), device.life)?;
            let mut changed = false;
            for (algorithm, OneTimeKey { key_id, key, .. }) in given.clone() {
                if all.get(&algorithm).is_none_or(|now| now.key_id != key_id || now.key != key) {
                    all.insert(algorithm, Fallback { key_id, key, used: false });
                    changed = true;
                }
            }
            if !changed {
                return Ok(((), Vec::new()));
            }
            if all.len() > ALGORITHMS {
                return Err(Error::TooLarge(format!("a device has keys of at most {ALGORITHMS} algorithms")));
            }
            Ok(((), vec![shelf::set_of_life(kind::FALLBACK, &place, device.life, &all)?]))
        })
        .await
    }

    /// A device's fallback key, which is used from now on.
    pub(crate) async fn claim_fallback_key(
        &self,
        device: DeviceRef<'_>,
        algorithm: &str,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        let place = device.place();
        let (name, alive) = ((kind::FALLBACK, "", place.as_str()), Some(device.alive()));
        let claimed = self.update(device.tenant, device.user_id, name, alive, |entry| {
            let mut all: Fallbacks = shelf::of_life(entry.as_ref(), device.life)?;
            let Some(fallback) = all.get_mut(algorithm) else { return Ok((None, Vec::new())) };
            let given = Some((fallback.key_id.clone(), fallback.key.clone()));
            if std::mem::replace(&mut fallback.used, true) {
                return Ok((given, Vec::new()));
            }
            Ok((given, vec![shelf::set_of_life(kind::FALLBACK, &place, device.life, &all)?]))
        });
        match claimed.await {
            Err(Error::NoDevice) => Ok(None),
            other => other,
        }
    }

    /// The algorithms of which a device has a fallback key that nobody was given yet.
    pub(crate) async fn unused_fallback_keys(&self, device: DeviceRef<'_>) -> Result<Vec<String>, Error> {
        let entry = self.entry(device.tenant, device.user_id, (kind::FALLBACK, "", &device.place())).await?;
        let all: Fallbacks = shelf::of_life(entry.as_ref(), device.life)?;
        Ok(all.into_iter().filter(|(_, fallback)| !fallback.used).map(|(algorithm, _)| algorithm).collect())
    }
}
