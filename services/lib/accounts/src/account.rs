//! Accounts: the first row of a user's record, so that of two who register one name at once exactly one wins.

use polity_core::TenantId;
use ruma_common::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, Entry, Error, LoggedIn, NewDevice,
    devices::Slot,
    jobs,
    record::{Must, kind},
};

/// A password has at most this many bytes.
const PASSWORD_MAX: usize = 512;
/// The name of an account's entry.
const NAME: (&str, &str, &str) = (kind::ACCOUNT, "", "");

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
}

impl Accounts {
    /// Makes an account and logs its first device in, in one row. Of two at once exactly one wins.
    ///
    /// # Errors
    /// [`Error::UserInUse`], [`Error::TooLarge`], [`Error::Invalid`].
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
        let account = Account { password, created_ms: self.clock.now_ms(), admin: new.admin, deactivated: false };
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
            let (stored, answer) = self.logged_in(user_id, &device_id, &device, None);
            changes.push(Slot { life: 0, device: Some(stored) }.change(&device_id)?);
            logged_in = Some(answer);
        }
        let made = self.append(tenant, user_id, changes, vec![Must::BeNew]).await?;
        made.map(|_| logged_in).map_err(|_| Error::UserInUse)
    }

    /// The hash of a password that may be set.
    async fn hashed(&self, password: String) -> Result<String, Error> {
        if password.len() > PASSWORD_MAX {
            return Err(Error::TooLarge(format!("a password has at most {PASSWORD_MAX} bytes")));
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

    /// Whether the password is the account's. Takes as long for an account that doesn't exist.
    ///
    /// # Errors
    /// [`Error::WrongPassword`], [`Error::Deactivated`].
    pub async fn check_password(&self, tenant: TenantId, user_id: &UserId, password: String) -> Result<(), Error> {
        let account = self.account(self.entry(tenant, user_id, NAME).await?.as_ref())?;
        let deactivated = account.as_ref().is_some_and(|account| account.deactivated);
        // A longer one was never set; what is compared then is no password, and takes the same time.
        let password = if password.len() > PASSWORD_MAX { String::new() } else { password };
        let right = self.passwords.verify(password, account.and_then(|account| account.password)).await?;
        if deactivated {
            return Err(Error::Deactivated);
        }
        if right { Ok(()) } else { Err(Error::WrongPassword) }
    }

    /// Sets another password, and logs all devices but one out if that is asked for.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Deactivated`], [`Error::TooLarge`].
    pub async fn set_password(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        password: String,
        log_out_all_but: Option<&DeviceId>,
    ) -> Result<(), Error> {
        let hash = self.hashed(password).await?;
        self.change_account(tenant, user_id, Vec::new(), |account| Account { password: Some(hash.clone()), ..account })
            .await?;
        let Some(keep) = log_out_all_but else { return Ok(()) };
        let devices = self.devices(tenant, user_id).await?.into_iter().map(|device| device.device_id);
        let others: Vec<_> = devices.filter(|id| id != keep).collect();
        self.remove_devices(tenant, user_id, &others).await
    }

    /// Ends an account: nobody logs in any more, its devices are logged out, it leaves its rooms, its profile goes. The name stays
    /// taken.
    ///
    /// # Errors
    /// [`Error::NoAccount`]. Repeat it if anything else fails: what remains is done then.
    pub async fn deactivate(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let profile = |field| Change::new(kind::PROFILE, "", field, None);
        let also = vec![profile("displayname"), profile("avatar_url"), jobs::owe(jobs::LEAVE)];
        let gone = |account| Account { password: None, deactivated: true, ..account };
        match self.change_account(tenant, user_id, also, gone).await {
            Ok(()) | Err(Error::Deactivated) => {}
            Err(error) => return Err(error),
        }
        let devices = self.devices(tenant, user_id).await?.into_iter().map(|device| device.device_id);
        self.remove_devices(tenant, user_id, &devices.collect::<Vec<_>>()).await
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
