//! Logging in, and the tokens of a login.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use std::sync::Arc;

use polity_core::TenantId;
use polity_store::schema;
use ruma_common::{DeviceId, OwnedDeviceId, ServerName, UserId};

use crate::{
    Accounts, DeviceRef, Entry, Error, Session, account,
    devices::{self, DEVICES, NAME_MAX},
    jobs,
    record::kind,
    shelf::{self, Shelf, Stored},
    token::{self, Tokens},
};

/// Letters of a device id that the server makes.
const DEVICE_ID: usize = 10;
/// Who logs in where so many devices are gone and not cleared up yet does it first.
const LEFT: usize = 4;
/// How long an access token is good that can be refreshed.
const ACCESS_MS: u64 = 5 * 60 * 1000;

/// A login.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// The client's choice of an id; a device with that id goes on.
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

// === impl NewDevice ===

impl NewDevice {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let id = self.device_id.as_ref().map(|id| id.as_str().len());
        let name = self.display_name.as_ref().map(String::len);
        if id.max(name).is_some_and(|length| length > NAME_MAX) {
            return Err(Error::TooLarge(format!("device ids and names have at most {NAME_MAX} bytes")));
        }
        if id == Some(0) { Err(Error::Invalid("a device id can't be empty".to_owned())) } else { Ok(()) }
    }
}

fn too_many() -> Error {
    Error::TooLarge(format!("a user has at most {DEVICES} devices"))
}

// === impl Accounts ===

impl Accounts {
    /// Logs a device in, by the account's password. A device with that id keeps its keys, inbox and name (a client that was logged
    /// out softly goes on with them); its earlier tokens end. One that doesn't exist begins with nothing.
    ///
    /// # Errors
    /// [`Error::WrongPassword`], [`Error::Deactivated`], [`Error::TooLarge`].
    pub async fn log_in(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        password: String,
        new: NewDevice,
    ) -> Result<LoggedIn, Error> {
        let account = self.account_of(tenant, user_id, password).await?;
        match self.log_in_to(tenant, user_id, &account, new).await {
            // Another one by now, or the account's end.
            Err(Error::Stale) => Err(Error::WrongPassword),
            other => other,
        }
    }

    /// Logs a device of the account in, which must be as this entry says it is: a new password (or the account's end) comes after
    /// this login, and may end it, or this is [`Error::Stale`].
    pub(crate) async fn log_in_to(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        account: &Entry,
        new: NewDevice,
    ) -> Result<LoggedIn, Error> {
        new.check()?;
        let device_id = new.device_id.clone().unwrap_or_else(|| self.new_device_id());
        self.make_place(tenant, user_id, &device_id).await?;
        let same = account.same(account::NAME);
        let account = self.account(Some(account))?.filter(|account| !account.deactivated).ok_or(Error::Deactivated)?;
        let shelf_key = shelf::key(&device_id);
        self.update(tenant, user_id, (kind::DEVICE, "", &shelf_key), Some(same), |entry| {
            let mut shelf = Shelf::of(entry.as_ref())?;
            let mut changes = Vec::new();
            if let Some((life, stored)) = shelf.device(&device_id) {
                let before = DeviceRef { tenant, user_id, device_id: &device_id, life };
                if !account.keeps(stored.epoch, before) {
                    // Logged out with all others, and its entries still there: this one begins with nothing.
                    changes.extend(devices::goes_with(before));
                    // Nobody will find it dead who would tell of it.
                    changes.push(jobs::owe(jobs::LISTS));
                    shelf.end(&device_id, life);
                }
            }
            let before = shelf.device(&device_id).map(|(_, stored)| stored.clone());
            let (stored, logged_in) = self.logged_in(user_id, &device_id, &new, before, account.epoch);
            shelf.set(&device_id, stored).ok_or_else(too_many)?;
            changes.push(shelf.change(&shelf_key)?);
            Ok((logged_in, changes))
        })
        .await
    }

    /// Sees to it that a device of this id finds a place, unless the user has too many.
    async fn make_place(&self, tenant: TenantId, user_id: &UserId, device_id: &DeviceId) -> Result<(), Error> {
        if self.device(tenant, user_id, device_id).await?.is_some() {
            return Ok(());
        }
        if self.devices(tenant, user_id).await?.len() >= DEVICES {
            return Err(too_many());
        }
        let entry = self.entry(tenant, user_id, (kind::DEVICE, "", &shelf::key(device_id))).await?;
        // Logged in and out faster than that is cleared up.
        let left = Shelf::of(entry.as_ref())?.ended().len();
        if left < LEFT { Ok(()) } else { self.drop_leftovers(tenant, user_id).await }
    }

    pub(crate) fn new_device_id(&self) -> OwnedDeviceId {
        self.random.alphanumeric(DEVICE_ID).to_ascii_uppercase().into()
    }

    /// A device with new tokens.
    pub(crate) fn logged_in(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        new: &NewDevice,
        before: Option<Stored>,
        epoch: u64,
    ) -> (Stored, LoggedIn) {
        let (current, logged_in) = self.tokens(user_id, device_id, new.refresh);
        let stored = match before {
            Some(before) => Stored { current, previous: None, epoch, ..before },
            None => {
                let (display_name, created_ms) = (new.display_name.clone(), self.clock.now_ms());
                Stored { display_name, created_ms, current, previous: None, epoch }
            }
        };
        (stored, logged_in)
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

    /// Whose access token it is. From memory as long as nothing is written to the user's record: a logout counts at once.
    ///
    /// # Errors
    /// [`Error::UnknownToken`].
    pub async fn resolve(&self, tenant: TenantId, server: &ServerName, access_token: &str) -> Result<Session, Error> {
        let unknown = || Error::UnknownToken(false);
        let (user_id, device_id) = token::parse(server, access_token).ok_or_else(unknown)?;
        // Before the read.
        let mark = self.marks.of(&schema::USER_RECORD, tenant, &user_id);
        let read = async { Ok::<_, Error>(self.living(tenant, &user_id, &device_id).await?.map(Arc::new)) };
        let device = self.used.get_or_read(&(tenant, user_id.clone(), device_id.clone()), mark, read).await?;
        let device = device.ok_or_else(unknown)?;
        let stored = &device.stored;
        let hash = token::hash(access_token);
        let current = stored.current.has_access(&hash);
        let tokens = Some(&stored.current).filter(|_| current);
        let tokens = tokens.or(stored.previous.as_ref().filter(|tokens| tokens.has_access(&hash)));
        if tokens.ok_or_else(unknown)?.expires_ms.is_some_and(|end| end <= self.clock.now_ms()) {
            return Err(Error::UnknownToken(true));
        }
        if current && stored.previous.is_some() {
            // The new tokens arrived: the old ones end (unless the device was logged out or refreshed again since).
            let shelf_key = shelf::key(&device_id);
            self.update(tenant, &user_id, (kind::DEVICE, "", &shelf_key), None, |entry| {
                let mut shelf = Shelf::of(entry.as_ref())?;
                let now = shelf.device(&device_id).map(|(_, now)| now);
                let used = now.filter(|now| now.previous.is_some() && now.current.has_access(&hash)).cloned();
                let Some(used) = used else { return Ok(((), Vec::new())) };
                shelf.set(&device_id, Stored { previous: None, ..used });
                Ok(((), vec![shelf.change(&shelf_key)?]))
            })
            .await?;
        }
        Ok(Session { tenant, user_id, device_id, life: device.life })
    }

    /// Gives new tokens for a refresh token. The old ones stay good until a new one is used.
    ///
    /// # Errors
    /// [`Error::UnknownToken`].
    pub async fn refresh(&self, tenant: TenantId, server: &ServerName, refresh_token: &str) -> Result<LoggedIn, Error> {
        let unknown = || Error::UnknownToken(false);
        let (user_id, device_id) = token::parse(server, refresh_token).ok_or_else(unknown)?;
        let hash = token::hash(refresh_token);
        // A logout of all devices that comes between this and the row ends the new tokens, too: the epoch stays.
        if self.living(tenant, &user_id, &device_id).await?.is_none() {
            return Err(unknown());
        }
        let shelf_key = shelf::key(&device_id);
        let refreshed = self.update(tenant, &user_id, (kind::DEVICE, "", &shelf_key), None, |entry| {
            let mut shelf = Shelf::of(entry.as_ref())?;
            let (_, stored) = shelf.device(&device_id).ok_or_else(unknown)?;
            let stored = stored.clone();
            let old = if stored.current.has_refresh(&hash) {
                stored.current.clone()
            } else {
                // The answer to the first use was lost: the same again.
                stored.previous.clone().filter(|tokens| tokens.has_refresh(&hash)).ok_or_else(unknown)?
            };
            let (current, logged_in) = self.tokens(&user_id, &device_id, true);
            shelf.set(&device_id, Stored { current, previous: Some(old), ..stored });
            Ok((logged_in, vec![shelf.change(&shelf_key)?]))
        });
        match refreshed.await {
            // A record that never was.
            Err(Error::NoAccount) => Err(unknown()),
            other => other,
        }
    }
}
