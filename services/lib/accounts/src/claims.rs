//! One-time keys of many devices, for who has something to say to all of them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use polity_core::TenantId;
use ruma_common::{OwnedDeviceId, OwnedUserId};
use tokio::time::Instant;

use crate::{Accounts, Error};

/// Devices of which keys are claimed at once.
const AT_ONCE: usize = 32;
/// How often a key is claimed that the store doesn't give, when it gave others.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// After so long no claim is made again: who waits for the keys that there are must not lose patience.
const TRIES_LAST: Duration = Duration::from_secs(3);

/// A device of which a key is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The key's algorithm.
    pub algorithm: String,
}

/// A key that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The device.
    pub of: Wanted,
    /// The key's id within its algorithm.
    pub key_id: String,
    /// The key, as JSON.
    pub key: Vec<u8>,
}

impl Accounts {
    /// Hands out a key of each of these devices: see [`Accounts::claim_one_time_key`]. Those that have none, or aren't there, are left out.
    ///
    /// # Errors
    /// When there is none for anybody, and the store is why.
    pub async fn claim_one_time_keys(&self, tenant: TenantId, mut wanted: Vec<Wanted>) -> Result<Vec<Claimed>, Error> {
        let (mut out, began) = (Vec::new(), Instant::now());
        for tries in 1.. {
            let failing = &AtomicBool::new(false);
            let claims = std::mem::take(&mut wanted).into_iter().map(|of| async move {
                // A store that stopped answering must not be waited for once for each device.
                if failing.load(Ordering::Relaxed) && began.elapsed() >= TRIES_LAST {
                    return (of, Err(Error::Unfinished("the store gives no one-time keys".to_owned())));
                }
                let claimed = self.claim_one_time_key(tenant, &of.user_id, &of.device_id, &of.algorithm).await;
                failing.fetch_or(claimed.is_err(), Ordering::Relaxed);
                (of, claimed)
            });
            let (mut claims, mut why) = (stream::iter(claims).buffer_unordered(AT_ONCE), None);
            while let Some((of, claimed)) = claims.next().await {
                match claimed {
                    Ok(Some((key_id, key))) => out.push(Claimed { of, key_id, key }),
                    Ok(None) => {}
                    Err(error) => {
                        wanted.push(of);
                        why.get_or_insert(error);
                    }
                }
            }
            if let Some(error) = &why {
                tracing::warn!(%error, devices = wanted.len(), "one-time keys can't be claimed");
            }
            match why {
                // Who is given nothing must know that it isn't for want of keys.
                Some(error) if out.is_empty() => return Err(error),
                // The keys that were claimed must reach the client, as nobody else gets them. A device that isn't in the answer has no
                // keys for it, and some clients then leave it out for good.
                Some(_) if tries < TRIES && began.elapsed() < TRIES_LAST => tokio::time::sleep(PAUSE).await,
                _ => break,
            }
        }
        Ok(out)
    }
}
