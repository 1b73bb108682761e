//! What a change of a user's record still owes elsewhere: an entry of the record, set in the same row as the change and removed
//! when it is done. So a process killed in between loses nothing: whoever loads the record next (recovery at the latest) goes on.
//!
//! A job may be done twice, and says only what to look at: the newest value goes out, however many changes there were.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_core::{
    Clock, TenantId,
    mutation::{Mutation, planted},
    tasks,
};
use ruma_common::{OwnedUserId, UserId};
use tokio::sync::{Notify, Semaphore};

use crate::{
    Accounts, Change, Entry, Error,
    record::{self, kind},
};

/// The tenant's device-list log is to be told.
pub(crate) const LISTS: &str = "lists";
/// The tenant's device-list log is to be told of others' keys that the user has signed.
pub(crate) const SIGNED: &str = "signed";
/// The rooms are to be told of the profile.
pub(crate) const PROFILE: &str = "profile";
/// The user is to leave all rooms.
pub(crate) const LEAVE: &str = "leave";
/// The devices that the account logged out all at once are to go.
pub(crate) const LOGOUT: &str = "logout";
/// What stood beside devices that are gone is to go.
pub(crate) const LEFTOVERS: &str = "leftovers";

/// Users with work to do; changes that would leave more are refused.
const PENDING: usize = 100_000;
/// Users whose work is done at once.
const AT_ONCE: usize = 8;
/// What its own request does is looked at by others only after this long.
const OWN: Duration = Duration::from_secs(5);
/// What couldn't be done is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks whether work that is under way has ended.
const SOON: Duration = Duration::from_millis(20);
/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(200);

/// Users whose records owe something: a hint, the truth stands there.
pub(crate) struct Pending {
    clock: Arc<dyn Clock>,
    due: Mutex<BTreeSet<(Duration, TenantId, OwnedUserId)>>,
    added: Notify,
    running: AtomicUsize,
}

/// The part of the work that only those can do who write to rooms.
#[async_trait]
pub trait RoomWork: Send + Sync + 'static {
    /// Brings the user's profile, as it is now, to the rooms that the user is in.
    ///
    /// # Errors
    /// When it didn't reach all of them: it is called again later.
    async fn profile_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error>;

    /// Takes the user out of all rooms: the account is deactivated.
    ///
    /// # Errors
    /// When some remain: it is called again later.
    async fn leave_rooms(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error>;
}

// === impl Pending ===

impl Pending {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, due: Mutex::default(), added: Notify::new(), running: AtomicUsize::new(0) }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.due.lock().len() >= PENDING
    }

    /// Notes that a user's record owes `job`.
    pub(crate) fn add(&self, tenant: TenantId, user_id: &UserId, job: &str) {
        let wait = if matches!(job, LISTS | SIGNED) { OWN } else { Duration::ZERO };
        self.add_in(wait, tenant, user_id.to_owned());
    }

    fn add_in(&self, wait: Duration, tenant: TenantId, user_id: OwnedUserId) {
        self.due.lock().insert((self.clock.monotonic() + wait, tenant, user_id));
        self.added.notify_one();
    }

    /// A user who is due by now.
    fn take(&self, by: Duration) -> Option<(TenantId, OwnedUserId)> {
        let mut due = self.due.lock();
        let first = due.first().filter(|(at, ..)| *at <= by)?.clone();
        due.remove(&first);
        self.running.fetch_add(1, Ordering::SeqCst);
        Some((first.1, first.2))
    }

    fn ended(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn is_idle(&self) -> bool {
        self.due.lock().is_empty() && self.running.load(Ordering::SeqCst) == 0
    }
}

// === impl Accounts ===

impl Accounts {
    /// Does what records owe, a few users at a time, for as long as it is polled.
    pub async fn work(self: Arc<Self>, rooms: Arc<dyn RoomWork>) {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (tenant, user_id) = self.next_due().await;
            let (accounts, rooms) = (Arc::clone(&self), Arc::clone(&rooms));
            tasks::spawn(async move {
                accounts.settle(tenant, user_id, &*rooms).await;
                drop(permit);
            });
        }
    }

    async fn next_due(&self) -> (TenantId, OwnedUserId) {
        loop {
            if let Some(next) = self.pending.take(self.clock.monotonic()) {
                return next;
            }
            if self.pending.due.lock().is_empty() {
                self.pending.added.notified().await;
            } else {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Does all that is owed, whether or not it is its time. For a shutdown (and tests): says whether nothing is left.
    pub(crate) async fn settle_all(&self, rooms: &dyn RoomWork) -> bool {
        loop {
            while let Some((tenant, user_id)) = self.pending.take(Duration::MAX) {
                if !self.settle(tenant, user_id, rooms).await {
                    return false;
                }
            }
            if self.pending.is_idle() {
                return true;
            }
            // Some is under way.
            tokio::time::sleep(SOON).await;
        }
    }

    /// Does what a user's record owes; says whether nothing is left.
    async fn settle(&self, tenant: TenantId, user_id: OwnedUserId, rooms: &dyn RoomWork) -> bool {
        let outcome = self.try_settle(tenant, &user_id, rooms).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "what a user's record owes can't be done yet");
            self.pending.add_in(AGAIN, tenant, user_id);
        }
        self.pending.ended();
        outcome.is_ok()
    }

    async fn try_settle(&self, tenant: TenantId, user_id: &UserId, rooms: &dyn RoomWork) -> Result<(), Error> {
        let mut outcome = Ok(());
        for job in record::entries(&*self.store, tenant, user_id, kind::JOB, None).await? {
            if job.value.is_none() {
                continue;
            }
            // One that can't be done yet keeps no other from being done.
            let done = self.do_job(tenant, user_id, &job, rooms).await;
            outcome = outcome.and(done);
        }
        outcome
    }

    async fn do_job(&self, tenant: TenantId, user_id: &UserId, job: &Entry, rooms: &dyn RoomWork) -> Result<(), Error> {
        match job.key.as_str() {
            LISTS => self.tell_lists(tenant, user_id).await?,
            SIGNED => self.tell_all_signed(tenant, user_id).await?,
            PROFILE => rooms.profile_changed(tenant, user_id).await?,
            LEAVE => rooms.leave_rooms(tenant, user_id).await?,
            LOGOUT => self.end_dead_devices(tenant, user_id).await?,
            LEFTOVERS => self.drop_leftovers(tenant, user_id).await?,
            // A newer version's: it will do it.
            _ => return Ok(()),
        }
        self.job_done(tenant, user_id, job).await
    }

    /// Takes a job off the record, unless it was given again since: then it is noted again, too.
    async fn job_done(&self, tenant: TenantId, user_id: &UserId, job: &Entry) -> Result<(), Error> {
        self.update(tenant, user_id, (kind::JOB, "", &job.key), None, |now| {
            let same = now
                .is_some_and(|now| now.value.is_some() && (now.seq == job.seq || planted(Mutation::FreshJobCleared)));
            Ok(((), if same { vec![Change::new(kind::JOB, "", &job.key, None)] } else { Vec::new() }))
        })
        .await
    }

    /// Tells the tenant that a user's devices changed, and takes that job off the record.
    pub(crate) async fn devices_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let job = self.entry(tenant, user_id, (kind::JOB, "", LISTS)).await?;
        self.tell_lists(tenant, user_id).await?;
        match job {
            Some(job) => self.job_done(tenant, user_id, &job).await,
            None => Ok(()),
        }
    }
}

/// The entry that owes `job`.
pub(crate) fn owe(job: &str) -> Change {
    Change::new(kind::JOB, "", job, Some(Vec::new()))
}
