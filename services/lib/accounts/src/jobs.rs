//! What a change of a user's record still owes elsewhere: an entry of the record, set in the same row as the change and removed
//! when it is done. So a process killed in between loses nothing: whoever loads the record next goes on. Until it is done some process has
//! the record open, or had it a moment ago, and so recovery is one that loads it.
//!
//! A job may be done twice, and says only what to look at: the newest value goes out, however many changes there were.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use polity_core::{
    TenantId,
    mutation::{Mutation, planted},
    tasks,
};
use polity_log::LogError;
use polity_store::Store;
use ruma_common::UserId;
use tokio::sync::Semaphore;

use crate::{
    Accounts, Change, Entry, Error,
    due::{Pending, Turn},
    record::{self, Must, Refused, kind},
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

/// Users whose work is done at once.
const AT_ONCE: usize = 8;
/// What its own request does is looked at by others only after this long.
const OWN: Duration = Duration::from_secs(5);
/// A record whose work takes long is asked for this often. The log engine keeps what was asked for within a minute in the registry, where
/// whoever finishes for a dead process finds it; what is tried again is so within that minute, too.
const TOUCHED: Duration = Duration::from_secs(30);
/// Between two looks whether work that is under way has ended.
const SOON: Duration = Duration::from_millis(20);
/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(200);
/// How often jobs are read that change meanwhile.
const TRIES: usize = 8;

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

// === impl Accounts ===

impl Accounts {
    /// Does what records owe, a few users at a time, for as long as it is polled.
    pub async fn work(self: Arc<Self>, rooms: Arc<dyn RoomWork>) {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let turn = self.pending.next(TICK).await;
            let (accounts, rooms) = (Arc::clone(&self), Arc::clone(&rooms));
            tasks::spawn(async move {
                if accounts.settle(&turn, &*rooms).await {
                    turn.done();
                }
                drop(permit);
            });
        }
    }

    /// Does all that is owed, whether or not it is its time, and waits for what is under way. For a shutdown (and tests): says whether
    /// nothing is left.
    pub(crate) async fn settle_all(&self, rooms: &dyn RoomWork) -> bool {
        // Once is enough: they are kept until the end, so that nobody's turn comes again.
        let (mut under_way, mut left) = (FuturesUnordered::new(), Vec::new());
        loop {
            while under_way.len() < AT_ONCE
                && let Some(turn) = self.pending.take(Duration::MAX)
            {
                under_way.push(async move { (self.settle(&turn, rooms).await, turn) });
            }
            match under_way.next().await {
                Some((true, turn)) => turn.done(),
                Some((false, turn)) => left.push(turn),
                None if self.pending.len() == left.len() => return left.is_empty(),
                // Some of it somebody else does.
                None => tokio::time::sleep(SOON).await,
            }
        }
    }

    /// Does what a user's record owes; says whether nothing is left.
    async fn settle(&self, turn: &Turn, rooms: &dyn RoomWork) -> bool {
        let Turn { tenant, user_id, .. } = turn;
        let touched = async {
            loop {
                tokio::time::sleep(TOUCHED).await;
                let _ = self.confirm(*tenant, user_id, &[]).await;
            }
        };
        let settled = std::pin::pin!(self.try_settle(*tenant, user_id, rooms));
        let outcome = match select(settled, std::pin::pin!(touched)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => never,
        };
        if let Err(error) = &outcome {
            tracing::warn!(%error, "what a user's record owes can't be done yet");
        }
        outcome.is_ok()
    }

    async fn try_settle(&self, tenant: TenantId, user_id: &UserId, rooms: &dyn RoomWork) -> Result<(), Error> {
        let mut outcome = Ok(());
        for job in self.jobs(tenant, user_id).await? {
            // One that can't be done yet keeps no other from being done.
            let done = self.do_job(tenant, user_id, &job, rooms).await;
            outcome = outcome.and(done);
        }
        outcome
    }

    /// What a record owes, of rows that can be read whole: of a row that is being projected one read may find the job, and another one not
    /// yet what changed.
    async fn jobs(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Entry>, Error> {
        for _ in 0..TRIES {
            let jobs = entries(&*self.store, tenant, user_id).await?;
            if jobs.is_empty() || self.confirm(tenant, user_id, &jobs).await? {
                return Ok(jobs);
            }
        }
        Err(LogError::Contended.into())
    }

    /// Whether the record, projected to its head, still owes these jobs. It was asked for, whatever it says.
    async fn confirm(&self, tenant: TenantId, user_id: &UserId, jobs: &[Entry]) -> Result<bool, Error> {
        let stands = jobs.iter().map(|job| job.same((kind::JOB, &job.scope, &job.key)));
        let musts = [Must::Exist].into_iter().chain(stands).collect();
        match self.append(tenant, user_id, Vec::new(), musts).await? {
            Ok(_) => Ok(true),
            Err(Refused::Changed(_)) => Ok(false),
            Err(_) => Err(Error::NoAccount),
        }
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
        let job = job.filter(|job| job.value.is_some());
        // Of a row that isn't whole yet the tenant would be told too soon: that one is looked at later.
        let whole = match &job {
            Some(job) => self.confirm(tenant, user_id, std::slice::from_ref(job)).await?,
            None => false,
        };
        if !planted(Mutation::ListsUntold) {
            self.tell_lists(tenant, user_id).await?;
        }
        match job.filter(|_| whole) {
            Some(job) => self.job_done(tenant, user_id, &job).await,
            None => Ok(()),
        }
    }

    /// Sees to it that the tenant is told of a change of a user's devices before it is acknowledged. One that isn't `new` stood there
    /// already: whoever made it may have died, or be slow, before anybody was told.
    pub(crate) async fn devices_acknowledged(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        new: bool,
    ) -> Result<(), Error> {
        if !new {
            // The change may be seen before the job that stands in the same row.
            self.confirm(tenant, user_id, &[]).await?;
            let job = self.entry(tenant, user_id, (kind::JOB, "", LISTS)).await?;
            if job.is_none_or(|job| job.value.is_none()) {
                return Ok(());
            }
        }
        self.devices_changed(tenant, user_id).await
    }
}

/// What a user's record owes, by the names of the jobs.
///
/// # Errors
/// When the store can't be read.
pub async fn owed(store: &dyn Store, tenant: TenantId, user_id: &UserId) -> Result<Vec<String>, Error> {
    Ok(entries(store, tenant, user_id).await?.into_iter().map(|job| job.key).collect())
}

async fn entries(store: &dyn Store, tenant: TenantId, user_id: &UserId) -> Result<Vec<Entry>, Error> {
    let mut jobs = record::entries(store, tenant, user_id, kind::JOB, None).await?;
    jobs.retain(|job| job.value.is_some());
    Ok(jobs)
}

impl Pending {
    /// Notes that a user's record owes `job`.
    pub(crate) fn note(&self, tenant: TenantId, user_id: &UserId, job: &str) {
        self.add(tenant, user_id, if matches!(job, LISTS | SIGNED) { OWN } else { Duration::ZERO });
    }
}

/// The entry that owes `job`.
pub(crate) fn owe(job: &str) -> Change {
    Change::new(kind::JOB, "", job, Some(Vec::new()))
}
