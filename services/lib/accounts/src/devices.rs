//! Devices and their tokens: entries of the user's record, so that a logout is a row of it.

use polity_core::TenantId;
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, Error,
    record::{self, kind},
    token::{self, Hash},
};

/// Devices per user.
const DEVICES: usize = 1000;
/// A device id or display name has at most this many bytes.
const NAME_MAX: usize = 512;
/// Devices that one row removes.
const ROW_DEVICES: usize = 50;
/// Letters of a device id that the server makes.
const DEVICE_ID: usize = 10;
/// How long an access token is good that can be refreshed.
const ACCESS_MS: u64 = 5 * 60 * 1000;

/// A login.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// The client's choice of an id; a device with that id is replaced.
    pub device_id: Option<OwnedDeviceId>,
    /// What people call it.
    pub display_name: Option<String>,
    /// Whether the client can refresh tokens.
    pub refresh: bool,
}

/// What a login (or refresh) gives.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its access token.
    pub access_token: String,
    /// With which a new one can be had.
    pub refresh_token: Option<String>,
    /// When the access token ends, in milliseconds from now.
    pub expires_in_ms: Option<u64>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What people call it.
    pub display_name: Option<String>,
}

/// The stored entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    display_name: Option<String>,
    created_ms: u64,
    current: Tokens,
    /// Still good until one of the current ones is used.
    previous: Option<Tokens>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tokens {
    access: Hash,
    refresh: Option<Hash>,
    /// Unix milliseconds; none: for ever.
    expires_ms: Option<u64>,
}

impl Accounts {
    /// Logs a device of an account that exists in. A device with that id keeps its keys, inbox and name (a client that was logged
    /// out softly goes on with them); its earlier tokens end. One that doesn't exist begins with nothing.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::TooLarge`].
    pub async fn log_in(&self, tenant: TenantId, user_id: &UserId, new: NewDevice) -> Result<LoggedIn, Error> {
        let device_id =
            new.device_id.unwrap_or_else(|| self.random.alphanumeric(DEVICE_ID).to_ascii_uppercase().into());
        let long = new.display_name.as_ref().is_some_and(|name| name.len() > NAME_MAX);
        if long || device_id.as_str().is_empty() || device_id.as_str().len() > NAME_MAX {
            return Err(Error::TooLarge(format!("device ids and names have at most {NAME_MAX} bytes")));
        }
        let name = (kind::DEVICE, "", device_id.as_str());
        let before: Option<Stored> = match self.entry(tenant, user_id, name).await? {
            Some(entry) => entry.decode()?,
            None => None,
        };
        if before.is_none() {
            if self.devices(tenant, user_id).await?.len() >= DEVICES {
                return Err(Error::TooLarge(format!("a user has at most {DEVICES} devices")));
            }
            // What a device of that id left when its removal was cut short must not become this one's.
            self.clear_device(tenant, user_id, &device_id).await?;
        }
        self.update(tenant, user_id, name, |entry| {
            let before: Option<Stored> = entry.map(|entry| entry.decode()).transpose()?.flatten();
            let (current, logged_in) = self.tokens(user_id, &device_id, new.refresh);
            let stored = match before {
                Some(before) => Stored { current, previous: None, ..before },
                None => Stored {
                    display_name: new.display_name.clone(),
                    created_ms: self.clock.now_ms(),
                    current,
                    previous: None,
                },
            };
            Ok((logged_in, vec![Change::set(kind::DEVICE, "", device_id.as_str(), &stored)?]))
        })
        .await
    }

    fn tokens(&self, user_id: &UserId, device_id: &DeviceId, refresh: bool) -> (Tokens, LoggedIn) {
        let make = || token::make(&*self.random, user_id.localpart(), device_id.as_str());
        let (access_token, refresh_token) = (make(), refresh.then(make));
        let expires_in_ms = refresh.then_some(ACCESS_MS);
        let tokens = Tokens {
            access: token::hash(&access_token),
            refresh: refresh_token.as_deref().map(token::hash),
            expires_ms: expires_in_ms.map(|ms| self.clock.now_ms() + ms),
        };
        (tokens, LoggedIn { device_id: device_id.to_owned(), access_token, refresh_token, expires_in_ms })
    }

    /// Whose access token it is.
    ///
    /// # Errors
    /// [`Error::UnknownToken`].
    pub async fn resolve(&self, tenant: TenantId, server: &ServerName, access_token: &str) -> Result<Resolved, Error> {
        let (user_id, device_id, stored) = self.device_of(tenant, server, access_token).await?;
        let hash = token::hash(access_token);
        let current = token::same(&stored.current.access, &hash);
        let previous = stored.previous.as_ref().is_some_and(|tokens| token::same(&tokens.access, &hash));
        let tokens = if current { &stored.current } else { stored.previous.as_ref().unwrap_or(&stored.current) };
        if !current && !previous {
            return Err(Error::UnknownToken(false));
        }
        if tokens.expires_ms.is_some_and(|end| end <= self.clock.now_ms()) {
            return Err(Error::UnknownToken(true));
        }
        if current && stored.previous.is_some() {
            // The new tokens arrived: the old ones end (unless the device was logged out or refreshed again since).
            self.update(tenant, &user_id, (kind::DEVICE, "", device_id.as_str()), |entry| {
                let now: Option<Stored> = entry.map(|entry| entry.decode()).transpose()?.flatten();
                let used = now.filter(|now| now.previous.is_some() && token::same(&now.current.access, &hash));
                let change =
                    |used| Change::set(kind::DEVICE, "", device_id.as_str(), &Stored { previous: None, ..used });
                Ok(((), used.map(change).transpose()?.into_iter().collect()))
            })
            .await?;
        }
        Ok(Resolved { user_id, device_id })
    }

    /// Gives new tokens for a refresh token. The old ones stay good until a new one is used.
    ///
    /// # Errors
    /// [`Error::UnknownToken`].
    pub async fn refresh(&self, tenant: TenantId, server: &ServerName, refresh_token: &str) -> Result<LoggedIn, Error> {
        let unknown = || Error::UnknownToken(false);
        let (user_id, device_id) = named(server, refresh_token).ok_or_else(unknown)?;
        let hash = token::hash(refresh_token);
        let is = |tokens: &Tokens| tokens.refresh.as_ref().is_some_and(|refresh| token::same(refresh, &hash));
        let refreshed = self.update(tenant, &user_id, (kind::DEVICE, "", device_id.as_str()), |entry| {
            let stored: Option<Stored> = entry.map(|entry| entry.decode()).transpose()?.flatten();
            let stored = stored.ok_or_else(unknown)?;
            let old = if is(&stored.current) {
                stored.current.clone()
            } else {
                // The answer to the first use was lost: the same again.
                stored.previous.clone().filter(is).ok_or_else(unknown)?
            };
            let (current, logged_in) = self.tokens(&user_id, &device_id, true);
            let stored = Stored { current, previous: Some(old), ..stored };
            Ok((logged_in, vec![Change::set(kind::DEVICE, "", device_id.as_str(), &stored)?]))
        });
        refreshed.await
    }

    async fn device_of(
        &self,
        tenant: TenantId,
        server: &ServerName,
        token: &str,
    ) -> Result<(OwnedUserId, OwnedDeviceId, Stored), Error> {
        let unknown = || Error::UnknownToken(false);
        let (user_id, device_id) = named(server, token).ok_or_else(unknown)?;
        let name = (kind::DEVICE, "", device_id.as_str());
        let entry = self.entry(tenant, &user_id, name).await?.ok_or_else(unknown)?;
        Ok((user_id, device_id, entry.decode()?.ok_or_else(unknown)?))
    }

    /// A user's devices.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn devices(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Device>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE, None).await?;
        let mut devices = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(stored) = entry.decode::<Stored>()? {
                devices.push(Device { device_id: entry.key.into(), display_name: stored.display_name });
            }
        }
        Ok(devices)
    }

    /// Renames a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::TooLarge`].
    pub async fn rename_device(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<(), Error> {
        if display_name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            return Err(Error::TooLarge(format!("device names have at most {NAME_MAX} bytes")));
        }
        self.update(tenant, user_id, (kind::DEVICE, "", device_id.as_str()), |entry| {
            let stored: Option<Stored> = entry.map(|entry| entry.decode()).transpose()?.flatten();
            let stored = Stored { display_name: display_name.clone(), ..stored.ok_or(Error::NoDevice)? };
            Ok(((), vec![Change::set(kind::DEVICE, "", device_id.as_str(), &stored)?]))
        })
        .await?;
        self.devices_changed(tenant, user_id).await
    }

    /// Logs devices out: their tokens end, their keys go. Ids that no device has are passed over.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn remove_devices(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_ids: &[OwnedDeviceId],
    ) -> Result<(), Error> {
        let there = self.devices(tenant, user_id).await?;
        let gone: Vec<_> =
            there.into_iter().map(|device| device.device_id).filter(|id| device_ids.contains(id)).collect();
        let changes = |id: &OwnedDeviceId| {
            [(kind::DEVICE, ""), (kind::DEVICE_KEYS, ""), (kind::SIGNATURES, user_id.as_str())]
                .map(|(kind, scope)| Change::new(kind, scope, id.as_str(), None))
        };
        for some in gone.chunks(ROW_DEVICES) {
            self.change(tenant, user_id, some.iter().flat_map(changes).collect()).await?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        // First of all whoever encrypts for them is to stop.
        self.devices_changed(tenant, user_id).await?;
        for device_id in &gone {
            self.clear_device(tenant, user_id, device_id).await?;
        }
        Ok(())
    }

    /// Takes away what stands beside a device's entry: its inbox, its one-time and fallback keys.
    async fn clear_device(&self, tenant: TenantId, user_id: &UserId, device_id: &DeviceId) -> Result<(), Error> {
        let name = crate::inbox::name(user_id, device_id);
        if let Some(key) = self.inbox_names.find(tenant, &name).await? {
            // A device made again begins with an empty inbox.
            self.inbox_names.next_life(&name, key).await?;
        }
        self.drop_one_time_keys(tenant, user_id, device_id).await
    }
}

/// Whom a token names.
fn named(server: &ServerName, text: &str) -> Option<(OwnedUserId, OwnedDeviceId)> {
    let (localpart, device) = token::parse(text)?;
    Some((UserId::parse(format!("@{localpart}:{server}")).ok()?, device.into()))
}
