//! The door to users' records, inboxes and device lists.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use polity_bus::Bus;
use polity_core::{Clock, Random, Seq, TenantId};
use polity_log::{Env, LogError, Logs, Recover};
use polity_store::{Kept, Marks, Store};
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use tokio::time::Instant;

use crate::{
    Change, DeviceRef, Entry, Error, RoomWork,
    due::Pending,
    inbox::InboxMachine,
    lists::{self, ListMachine},
    password::Passwords,
    record::{self, Append, Must, RecordMachine, Refused},
    shelf::Living,
};

/// How often a change that depends on what an entry is now is worked out again.
const TRIES: usize = 32;
/// Bytes of devices kept in memory, for access tokens.
const DEVICES_KEPT: u64 = 16 << 20;

/// The logs of users, for recovery and shutdown.
pub struct Uses {
    pub(crate) records: Logs<RecordMachine>,
    pub(crate) inboxes: Logs<InboxMachine>,
    pub(crate) lists: Logs<ListMachine>,
}

/// Users of all tenants.
pub struct Accounts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) uses: Uses,
    pub(crate) pending: Arc<Pending>,
    pub(crate) passwords: Passwords,
    pub(crate) marks: Arc<Marks>,
    /// Devices whose tokens were used lately.
    pub(crate) used: Kept<(TenantId, OwnedUserId, OwnedDeviceId), Option<Arc<Living>>>,
}

// === impl Uses ===

impl Uses {
    /// For [`polity_log::recover_all`].
    #[must_use]
    pub fn recover(&self) -> Vec<Arc<dyn Recover>> {
        vec![Arc::new(self.records.clone()), Arc::new(self.inboxes.clone()), Arc::new(self.lists.clone())]
    }

    /// Unloads what is idle. Call it every few seconds.
    pub fn sweep(&self) {
        self.records.sweep();
        self.inboxes.sweep();
        self.lists.sweep();
    }

    /// Ends all logs, whatever records still owe; whether in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        let Self { records, inboxes, lists } = self;
        let (records, inboxes, lists) = tokio::join!(records.drain(limit), inboxes.drain(limit), lists.drain(limit));
        records && inboxes && lists
    }
}

// === impl Accounts ===

impl Accounts {
    /// The users whose logs stand on `env`, whose store moves `marks`. `cheap_passwords` is for tests only.
    ///
    /// # Errors
    /// When passwords can't be hashed.
    pub fn new(
        env: &Env,
        marks: Arc<Marks>,
        bus: &Arc<dyn Bus>,
        random: Arc<dyn Random>,
        cheap_passwords: bool,
        max_loaded: usize,
    ) -> Result<Self, Error> {
        let pending = Arc::new(Pending::new(Arc::clone(&env.clock)));
        let store = || Arc::clone(&env.store);
        let record = {
            let (store, bus, pending) = (store(), Arc::clone(bus), Arc::clone(&pending));
            move || RecordMachine::new(Arc::clone(&store), Arc::clone(&bus), Arc::clone(&pending))
        };
        let inbox = {
            let (store, bus, clock) = (store(), Arc::clone(bus), Arc::clone(&env.clock));
            move || InboxMachine::new(Arc::clone(&store), Arc::clone(&bus), Arc::clone(&clock))
        };
        let list = {
            let bus = Arc::clone(bus);
            move || ListMachine::new(Arc::clone(&bus))
        };
        let uses = Uses {
            records: Logs::new(env.clone(), "user", max_loaded, record),
            inboxes: Logs::new(env.clone(), "inbox", max_loaded, inbox),
            lists: Logs::new(env.clone(), "device-lists", max_loaded, list),
        };
        Ok(Self {
            store: store(),
            clock: Arc::clone(&env.clock),
            random,
            uses,
            pending,
            passwords: Passwords::new(cheap_passwords)?,
            marks,
            used: Kept::new("devices", DEVICES_KEPT, |_, _| 512),
        })
    }

    /// The logs, for recovery and shutdown.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Ends: does what records owe, then ends all logs. Says whether that was in time, and nothing is left: else whoever finishes for this
    /// process goes on with it, as its registry entry must stay.
    pub async fn drain(&self, rooms: &dyn RoomWork, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.pending.close();
        loop {
            // What isn't done then isn't lost: the record says so. The logs' own end needs time, too.
            let settled = tokio::time::timeout(left() / 2, self.settle_all(rooms)).await.unwrap_or(false);
            let ended = self.uses.drain(left()).await;
            // The end of the logs projects what waited for that, and may find more that is owed.
            if !settled || !ended || self.pending.len() == 0 {
                return settled && ended;
            }
        }
    }

    pub(crate) async fn entry(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        name: (&str, &str, &str),
    ) -> Result<Option<Entry>, Error> {
        record::entry(&*self.store, tenant, user_id, name).await
    }

    /// Changes entries of a device that must live.
    pub(crate) async fn change_of(&self, device: DeviceRef<'_>, changes: Vec<Change>) -> Result<(), Error> {
        let appended = self.append(device.tenant, device.user_id, changes, vec![device.alive()]).await?;
        appended.map(drop).map_err(|_| Error::NoDevice)
    }

    /// Changes entries by what one of them is: worked out again when somebody else changed that one in the meantime, so that no
    /// change is lost and nothing that was removed comes back. No changes: none are made. `also` must hold, too: when it doesn't
    /// any more that is [`Error::Stale`], since nobody works it out again.
    pub(crate) async fn update<T>(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        name: (&str, &str, &str),
        also: Option<Must>,
        mut decide: impl FnMut(Option<Entry>) -> Result<(T, Vec<Change>), Error>,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            let entry = self.entry(tenant, user_id, name).await?;
            let named = record::name(name);
            let same = Must::Same { name: named.clone(), seen: entry.as_ref().map(|entry| entry.seq) };
            let (outcome, changes) = decide(entry)?;
            if changes.is_empty() {
                return Ok(outcome);
            }
            let musts = [Must::Exist, same].into_iter().chain(also.clone());
            match self.append(tenant, user_id, changes, musts.collect()).await? {
                Ok(_) => return Ok(outcome),
                Err(Refused::Exists) => return Err(Error::NoAccount),
                Err(Refused::Gone) => return Err(Error::NoDevice),
                Err(Refused::Full) => return Err(Error::Full),
                Err(Refused::Changed(which)) if which == named => {}
                Err(Refused::Changed(_)) => return Err(Error::Stale),
            }
        }
        Err(LogError::Contended.into())
    }

    pub(crate) async fn append(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        changes: Vec<Change>,
        musts: Vec<Must>,
    ) -> Result<Result<Seq, Refused>, Error> {
        let append = Append { user_id: user_id.to_owned(), musts, changes };
        Ok(self.uses.records.submit(record::log(tenant, user_id), append).await??)
    }

    /// Tells the tenant that a user's devices changed.
    pub(crate) async fn tell_lists(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.uses.lists.submit(lists::log(tenant), user_id.to_owned()).await??;
        Ok(())
    }

    /// Whose devices changed after a position of the tenant's log, each with the newest row that says so; and the position then.
    /// `None`: some thousand changes or more, perhaps everybody's.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device_lists_after(
        &self,
        tenant: TenantId,
        after: Seq,
    ) -> Result<Option<(BTreeMap<OwnedUserId, Seq>, Seq)>, Error> {
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
