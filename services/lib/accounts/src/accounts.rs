//! The door to users' records, inboxes and device lists.

use std::sync::Arc;

use polity_bus::{Bus, SubjectKind};
use polity_core::{Clock, LogId, Random, Seq, TenantId};
use polity_log::{Env, Logs, Names, Recover};
use polity_store::Store;
use ruma_common::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Change, Entry, Error, inbox,
    journal::{Append, Journal, Must},
    lists,
    password::Passwords,
    record::{self, kind},
};

/// A value of account data (and any other entry that clients set) has at most this many bytes.
const VALUE_MAX: usize = 256 * 1024;
/// A display name or avatar address has at most this many bytes.
const PROFILE_MAX: usize = 1000;

/// The logs of users, for recovery and shutdown.
pub struct Uses {
    pub(crate) records: Logs<Journal>,
    pub(crate) inboxes: Logs<Journal>,
    pub(crate) lists: Logs<Journal>,
}

/// Users of all tenants.
pub struct Accounts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) uses: Uses,
    pub(crate) inbox_names: Names,
    pub(crate) passwords: Passwords,
}

/// The entry that makes a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Account {
    /// argon2id, in PHC format; none: no login by password.
    password: Option<String>,
    created_ms: u64,
    admin: bool,
}

// === impl Uses ===

impl Uses {
    fn all(&self) -> [&Logs<Journal>; 3] {
        [&self.records, &self.inboxes, &self.lists]
    }

    /// For [`polity_log::recover_all`].
    #[must_use]
    pub fn recover(&self) -> Vec<Arc<dyn Recover>> {
        self.all().map(|logs| Arc::new(logs.clone()) as Arc<dyn Recover>).into()
    }

    /// Unloads what is idle. Call it every few seconds.
    pub fn sweep(&self) {
        self.all().into_iter().for_each(Logs::sweep);
    }

    /// Ends all tasks; says whether they ended in time.
    pub async fn drain(&self, limit: std::time::Duration) -> bool {
        let mut in_time = true;
        for logs in self.all() {
            in_time &= logs.drain(limit).await;
        }
        in_time
    }
}

// === impl Accounts ===

impl Accounts {
    /// The users whose logs stand on `env`. `cheap_passwords` is for tests only.
    ///
    /// # Errors
    /// When passwords can't be hashed.
    pub fn new(
        env: &Env,
        bus: &Arc<dyn Bus>,
        random: Arc<dyn Random>,
        cheap_passwords: bool,
        max_loaded: usize,
    ) -> Result<Self, Error> {
        let logs = |usage, wakes, project| {
            let bus = Arc::clone(bus);
            Logs::new(env.clone(), usage, max_loaded, move || Journal::new(Arc::clone(&bus), wakes, project))
        };
        let uses = Uses {
            records: logs("user", SubjectKind::User, record::project),
            inboxes: logs("inbox", SubjectKind::Device, inbox::project),
            lists: logs("device-lists", SubjectKind::DeviceLists, lists::project),
        };
        Ok(Self {
            store: Arc::clone(&env.store),
            clock: Arc::clone(&env.clock),
            inbox_names: Names::new(Arc::clone(&env.store), Arc::clone(&random), "inbox"),
            random,
            uses,
            passwords: Passwords::new(cheap_passwords)?,
        })
    }

    /// The logs, for recovery and shutdown.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Makes an account. Of two at once exactly one wins.
    ///
    /// # Errors
    /// [`Error::UserInUse`].
    pub async fn register(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        password: Option<String>,
        admin: bool,
    ) -> Result<(), Error> {
        if self.exists(tenant, user_id).await? {
            return Err(Error::UserInUse);
        }
        let password = match password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let account = Account { password, created_ms: self.clock.now_ms(), admin };
        let changes = vec![
            Change::set(kind::ACCOUNT, "", "", &account)?,
            Change::set(kind::PROFILE, "", "displayname", &user_id.localpart().to_owned())?,
        ];
        let made = self.append(tenant, user_id, changes, Must::BeNew).await?;
        made.map(drop).ok_or(Error::UserInUse)
    }

    /// Whether there is such an account.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn exists(&self, tenant: TenantId, user_id: &UserId) -> Result<bool, Error> {
        Ok(self.entry(tenant, user_id, (kind::ACCOUNT, "", "")).await?.is_some())
    }

    /// Whether the password is the account's. Takes as long for an account that doesn't exist.
    ///
    /// # Errors
    /// [`Error::WrongPassword`].
    pub async fn check_password(&self, tenant: TenantId, user_id: &UserId, password: String) -> Result<(), Error> {
        let account: Option<Account> = match self.entry(tenant, user_id, (kind::ACCOUNT, "", "")).await? {
            Some(entry) => entry.decode()?,
            None => None,
        };
        let right = self.passwords.verify(password, account.and_then(|account| account.password)).await?;
        if right { Ok(()) } else { Err(Error::WrongPassword) }
    }

    /// A field of a profile.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub async fn profile(&self, tenant: TenantId, user_id: &UserId, field: &str) -> Result<Option<String>, Error> {
        if !self.exists(tenant, user_id).await? {
            return Err(Error::NoAccount);
        }
        match self.entry(tenant, user_id, (kind::PROFILE, "", field)).await? {
            Some(entry) => entry.decode(),
            None => Ok(None),
        }
    }

    /// Sets (or removes) a field of a profile.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub async fn set_profile(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        field: &str,
        value: Option<String>,
    ) -> Result<(), Error> {
        if value.as_ref().is_some_and(|value| value.len() > PROFILE_MAX) {
            return Err(Error::TooLarge(format!("the {field} has more than {PROFILE_MAX} bytes")));
        }
        let change = match value {
            Some(value) => Change::set(kind::PROFILE, "", field, &value)?,
            None => Change::new(kind::PROFILE, "", field, None),
        };
        self.change(tenant, user_id, vec![change]).await.map(drop)
    }

    /// Account data: global (empty scope) or of a room. JSON as the client sent it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        scope: &str,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entry(tenant, user_id, (kind::ACCOUNT_DATA, scope, key)).await?.and_then(|entry| entry.value))
    }

    /// Sets account data.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub async fn set_account_data(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        (scope, key): (&str, &str),
        value: Vec<u8>,
    ) -> Result<(), Error> {
        if value.len() > VALUE_MAX {
            return Err(Error::TooLarge(format!("account data has at most {VALUE_MAX} bytes")));
        }
        self.change(tenant, user_id, vec![Change::new(kind::ACCOUNT_DATA, scope, key, Some(value))]).await.map(drop)
    }

    /// All account data: of every scope.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn all_account_data(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Entry>, Error> {
        record::entries(&*self.store, tenant, user_id, kind::ACCOUNT_DATA, None).await
    }

    /// What account data changed after a position: scope, key and value; and the position of the record then.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data_after(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        after: Seq,
    ) -> Result<(Vec<Change>, Seq), Error> {
        let (mut at, mut out): (Seq, Vec<Change>) = (after, Vec::new());
        loop {
            let (changes, last, more) = record::changes_after(&*self.store, tenant, user_id, at).await?;
            for change in changes.into_iter().filter(|change| change.kind == kind::ACCOUNT_DATA) {
                out.retain(|earlier| (&earlier.scope, &earlier.key) != (&change.scope, &change.key));
                out.push(change);
            }
            at = last;
            if !more {
                return Ok((out, at));
            }
        }
    }

    /// The position of a user's record now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn record_position(&self, tenant: TenantId, user_id: &UserId) -> Result<Seq, Error> {
        let key = record::log(tenant, user_id);
        let store = &*self.store;
        let hint = polity_log::read::projected_seq(store, key).await?;
        let found = polity_log::read::head(store, key, hint, polity_store::Consistency::Quorum).await?;
        Ok(found.map_or(Seq::ZERO, |found| found.head.seq))
    }

    /// The log of a device's inbox, made if it has none yet: what is published on the bus names it, also of the first message.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub async fn inbox_log(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &ruma_common::DeviceId,
    ) -> Result<LogId, Error> {
        Ok(self.inbox_names.find_or_make(tenant, &inbox::name(user_id, device_id)).await?.log)
    }

    pub(crate) async fn entry(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        name: (&str, &str, &str),
    ) -> Result<Option<Entry>, Error> {
        record::entry(&*self.store, tenant, user_id, name).await
    }

    /// Changes entries of an account that exists.
    pub(crate) async fn change(&self, tenant: TenantId, user_id: &UserId, changes: Vec<Change>) -> Result<Seq, Error> {
        self.append(tenant, user_id, changes, Must::Exist).await?.ok_or(Error::NoAccount)
    }

    async fn append(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        changes: Vec<Change>,
        must: Must,
    ) -> Result<Option<Seq>, Error> {
        let body = record::encode(user_id, changes)?;
        let append = Append { must, body, dedup: None };
        Ok(self.uses.records.submit(record::log(tenant, user_id), append).await??)
    }

    /// Tells the tenant that a user's devices changed.
    pub(crate) async fn devices_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let append = Append { must: Must::Any, body: lists::encode(user_id), dedup: None };
        self.uses.lists.submit(lists::log(tenant), append).await??;
        Ok(())
    }

    /// Whose devices changed after a position of the tenant's log, and the position then.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_lists_after(&self, tenant: TenantId, after: Seq) -> Result<(Vec<OwnedUserId>, Seq), Error> {
        lists::after(&*self.store, tenant, after).await
    }

    /// The position of the tenant's device-list changes now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_lists_position(&self, tenant: TenantId) -> Result<Seq, Error> {
        lists::position(&*self.store, tenant).await
    }
}

impl Accounts {
    /// A user's push rules, as JSON: the default ones, until they are changed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn push_rules(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<u8>, Error> {
        if let Some(own) = self.account_data(tenant, user_id, "", "m.push_rules").await? {
            return Ok(own);
        }
        let rules = serde_json::json!({"global": ruma_common::push::Ruleset::server_default(user_id)});
        Ok(rules.to_string().into_bytes())
    }
}
