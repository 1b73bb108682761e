//! Accounts: the first row of a user's record, so that of two who register one name at once exactly one wins.

use polity_core::TenantId;
use ruma_common::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, Device, DeviceRef, Entry, Error, LoggedIn, NewDevice, PROFILE_FIELDS, jobs,
    record::{Must, kind},
    shelf::{self, Living, Shelf},
};

/// A password has at most this many bytes.
const PASSWORD_MAX: usize = 512;
/// The name of an account's entry.
pub(crate) const NAME: (&str, &str, &str) = (kind::ACCOUNT, "", "");

/// A new account.
#[derive(Debug, Clone, Default)]
pub struct NewAccount {
    /// Without one nobody logs in by password.
    pub password: Option<String>,
    /// Whether it administrates the server.
    pub admin: bool,
    /// What people call the user; the localpart, if none is given.
    pub displayname: Option<String>,
    /// The device that is logged in with it.
    pub device: Option<NewDevice>,
}

/// The entry that makes a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// argon2id, in PHC format; none: no login by password.
    password: Option<String>,
    created_ms: u64,
    admin: bool,
    /// Nobody logs in, and nobody else gets the name.
    pub(crate) deactivated: bool,
    /// How often all devices were logged out at once. Those that logged in before the last time are dead from that row on, though
    /// their own entries are taken away later.
    pub(crate) epoch: u64,
    /// The device that the last time passed over, by its name.
    kept: Option<String>,
}

impl Account {
    /// Whether a device that logged in during `epoch` is still logged in.
    pub(crate) fn keeps(&self, epoch: u64, device: DeviceRef<'_>) -> bool {
        !self.deactivated && (epoch == self.epoch || self.kept.as_ref().is_some_and(|kept| *kept == device.name()))
    }

    /// With all devices but one logged out.
    fn logged_out(self, kept: Option<String>) -> Self {
        Self { epoch: self.epoch + 1, kept, ..self }
    }
}

impl Accounts {
    /// Makes an account and logs its first device in, in one row. Of two at once exactly one wins.
    ///
    /// # Errors
    /// [`Error::UserInUse`], [`Error::WeakPassword`], [`Error::TooLarge`], [`Error::Invalid`].
    pub async fn register(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        new: NewAccount,
    ) -> Result<Option<LoggedIn>, Error> {
        if self.exists(tenant, user_id).await? {
            return Err(Error::UserInUse);
        }
        let password = match new.password {
            Some(password) => Some(self.hashed(password).await?),
            None => None,
        };
        let (created_ms, admin) = (self.clock.now_ms(), new.admin);
        let account = Account { password, created_ms, admin, deactivated: false, epoch: 0, kept: None };
        let displayname = new.displayname.unwrap_or_else(|| user_id.localpart().to_owned());
        crate::data::check_profile("displayname", &displayname)?;
        let mut changes = vec![
            Change::set(kind::ACCOUNT, "", "", &account)?,
            Change::set(kind::PROFILE, "", "displayname", &displayname)?,
        ];
        let mut logged_in = None;
        if let Some(device) = new.device {
            device.check()?;
            let device_id = device.device_id.clone().unwrap_or_else(|| self.new_device_id());
            let (stored, answer) = self.logged_in(user_id, &device_id, &device, None, 0);
            let mut shelf = Shelf::default();
            shelf.set(&device_id, stored);
            changes.push(shelf.change(&shelf::key(&device_id))?);
            logged_in = Some(answer);
        }
        let made = self.append(tenant, user_id, changes, vec![Must::BeNew]).await?;
        made.map(|_| logged_in).map_err(|_| Error::UserInUse)
    }

    /// The hash of a password that may be set.
    async fn hashed(&self, password: String) -> Result<String, Error> {
        if password.is_empty() {
            return Err(Error::WeakPassword);
        }
        if password.len() > PASSWORD_MAX {
            return Err(Error::Invalid(format!("a password has at most {PASSWORD_MAX} bytes")));
        }
        self.passwords.hash(password).await
    }

    /// Whether there is (or was) such an account: the name is taken.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn exists(&self, tenant: TenantId, user_id: &UserId) -> Result<bool, Error> {
        Ok(self.entry(tenant, user_id, NAME).await?.is_some())
    }

    pub(crate) fn account(&self, entry: Option<&Entry>) -> Result<Option<Account>, Error> {
        Ok(entry.map(Entry::decode).transpose()?.flatten())
    }

    /// Without the devices that the account logged out. Read the devices first: a login is never newer than the account that it is
    /// held against.
    pub(crate) async fn keep_logged_in(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        devices: &mut Vec<Living>,
    ) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        let account = self.account(self.entry(tenant, user_id, NAME).await?.as_ref())?.ok_or(Error::NoAccount)?;
        devices.retain(|Living { device_id, life, stored }| {
            account.keeps(stored.epoch, DeviceRef { tenant, user_id, device_id, life: *life })
        });
        Ok(())
    }

    /// Whether the password is the account's. Takes as long for an account that doesn't exist.
    ///
    /// # Errors
    /// [`Error::WrongPassword`], [`Error::Deactivated`].
    pub async fn check_password(&self, tenant: TenantId, user_id: &UserId, password: String) -> Result<(), Error> {
        self.account_of(tenant, user_id, password).await.map(drop)
    }

    /// The entry of the account whose password this is.
    pub(crate) async fn account_of(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        password: String,
    ) -> Result<Entry, Error> {
        let entry = self.entry(tenant, user_id, NAME).await?;
        let account = self.account(entry.as_ref())?;
        let deactivated = account.as_ref().is_some_and(|account| account.deactivated);
        // What can't be set is nobody's, and takes the same time: it is held against no hash.
        let (password, stored) = match account.and_then(|account| account.password) {
            stored if (1..=PASSWORD_MAX).contains(&password.len()) => (password, stored),
            _ => (String::new(), None),
        };
        let right = self.passwords.verify(password, stored).await?;
        if deactivated {
            return Err(Error::Deactivated);
        }
        entry.filter(|_| right).ok_or(Error::WrongPassword)
    }

    /// Sets another password, and logs all devices but one out in the same row if that is asked for.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deactivated`], [`Error::WeakPassword`], [`Error::Invalid`].
    pub async fn set_password(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        password: String,
        log_out_all_but: Option<&DeviceId>,
    ) -> Result<(), Error> {
        let hash = self.hashed(password).await?;
        let Some(keep) = log_out_all_but else {
            let changed = |account| Account { password: Some(hash.clone()), ..account };
            return self.change_account(tenant, user_id, Vec::new(), changed).await;
        };
        let kept = self.device(tenant, user_id, keep).await?;
        let kept = kept
            .map(|Device { device_id, life, .. }| DeviceRef { tenant, user_id, device_id: &device_id, life }.name());
        let changed = |account: Account| Account { password: Some(hash.clone()), ..account.logged_out(kept.clone()) };
        // The others are gone from this row on, whenever their own entries go.
        let owed = vec![jobs::owe(jobs::LOGOUT), jobs::owe(jobs::LISTS)];
        self.change_account(tenant, user_id, owed, changed).await?;
        self.devices_changed(tenant, user_id).await
    }

    /// Ends an account in one row: nobody logs in any more, its devices are logged out, its profile goes, and that it leaves its
    /// rooms is owed. The name stays taken.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub async fn deactivate(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let profile = PROFILE_FIELDS.map(|field| Change::new(kind::PROFILE, "", field, None));
        let owed = [jobs::LEAVE, jobs::LOGOUT, jobs::LISTS].map(jobs::owe);
        let also = profile.into_iter().chain(owed).collect();
        let gone = |account: Account| Account { password: None, deactivated: true, ..account.logged_out(None) };
        let new = match self.change_account(tenant, user_id, also, gone).await {
            Err(Error::Deactivated) => false,
            other => other.map(|()| true)?,
        };
        self.devices_acknowledged(tenant, user_id, new).await
    }

    async fn change_account(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        also: Vec<Change>,
        changed: impl Fn(Account) -> Account,
    ) -> Result<(), Error> {
        self.update(tenant, user_id, NAME, None, |entry| {
            let account = self.account(entry.as_ref())?.ok_or(Error::NoAccount)?;
            if account.deactivated {
                return Err(Error::Deactivated);
            }
            let account = Change::set(kind::ACCOUNT, "", "", &changed(account))?;
            Ok(((), [vec![account], also.clone()].concat()))
        })
        .await
    }
}
