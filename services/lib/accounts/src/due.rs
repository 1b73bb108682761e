//! Whose record owes something, and when it is looked at: a hint, the truth stands in the record. Each user is there once, and is
//! nobody's turn while somebody does what the record owes: what is added meanwhile comes after.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use polity_core::{Clock, TenantId};
use ruma_common::{OwnedUserId, UserId};
use tokio::sync::Notify;

/// Users with work to do; changes that would leave more are refused.
const USERS: usize = 100_000;
/// What couldn't be done is tried again after this long, and twice as long each time that it fails again.
const AGAIN: Duration = Duration::from_secs(5);
/// At most: see [`crate::jobs`], where it is held against the time for which a log is remembered.
const AGAIN_MAX: Duration = Duration::from_secs(40);

type Who = (TenantId, OwnedUserId);

/// See the module.
pub(crate) struct Pending {
    clock: Arc<dyn Clock>,
    users: Mutex<Users>,
    added: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Users {
    /// When each is due, and how often it has failed.
    waiting: BTreeMap<Who, (Duration, u32)>,
    /// The same, the first one first.
    order: BTreeSet<(Duration, Who)>,
    /// Whose turn it is, and when it is to be again by what was added since.
    running: BTreeMap<Who, Option<Duration>>,
}

/// A user whose turn it is, until this is dropped. Looked at again, unless it is told that it was [`done`](Turn::done).
pub(crate) struct Turn {
    pending: Arc<Pending>,
    pub(crate) tenant: TenantId,
    pub(crate) user_id: OwnedUserId,
    failed: u32,
    again: bool,
}

// === impl Pending ===

impl Pending {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, users: Mutex::default(), added: Notify::new(), closed: AtomicBool::new(false) }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= USERS
    }

    /// Notes that a user's record owes something, to be looked at after `wait`.
    pub(crate) fn add(&self, tenant: TenantId, user_id: &UserId, wait: Duration) {
        let (who, at) = ((tenant, user_id.to_owned()), self.clock.monotonic() + wait);
        let mut users = self.users.lock();
        match users.running.get_mut(&who) {
            Some(next) => *next = Some(next.map_or(at, |next| next.min(at))),
            None => users.wait(who, at, 0),
        }
        drop(users);
        self.added.notify_one();
    }

    /// A user who is due by `by`, if there is one.
    pub(crate) fn take(self: &Arc<Self>, by: Duration) -> Option<Turn> {
        let mut users = self.users.lock();
        if users.order.first()?.0 > by {
            return None;
        }
        let (_, who) = users.order.pop_first()?;
        let failed = users.waiting.remove(&who).map_or(0, |(_, failed)| failed);
        users.running.insert(who.clone(), None);
        Some(Turn { pending: Arc::clone(self), tenant: who.0, user_id: who.1, failed, again: true })
    }

    /// Nobody's turn comes any more, for who waits for the next one.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The same as soon as there is one.
    pub(crate) async fn next(self: &Arc<Self>, tick: Duration) -> Turn {
        loop {
            if self.closed.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if let Some(next) = self.take(self.clock.monotonic()) {
                return next;
            }
            if self.users.lock().order.is_empty() {
                self.added.notified().await;
            } else {
                tokio::time::sleep(tick).await;
            }
        }
    }

    /// How many wait, or have their turn.
    pub(crate) fn len(&self) -> usize {
        let users = self.users.lock();
        users.waiting.len() + users.running.len()
    }
}

impl Users {
    /// Lets somebody wait until `at`, or as long as before if that is sooner.
    fn wait(&mut self, who: Who, at: Duration, failed: u32) {
        let at = match self.waiting.get(&who) {
            Some((before, _)) if *before <= at => return,
            Some((before, _)) => {
                self.order.remove(&(*before, who.clone()));
                at
            }
            None => at,
        };
        self.order.insert((at, who.clone()));
        self.waiting.insert(who, (at, failed));
    }
}

// === impl Turn ===

impl Turn {
    /// Nothing is left to be done, or it is to be left as it is.
    pub(crate) fn done(mut self) {
        self.again = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let who = (self.tenant, self.user_id.clone());
        let mut users = self.pending.users.lock();
        let added = users.running.remove(&who).flatten();
        let wait = AGAIN_MAX.min(AGAIN * 2_u32.pow(self.failed.min(8)));
        let again = self.again.then(|| self.pending.clock.monotonic() + wait);
        let failed = if self.again { self.failed + 1 } else { 0 };
        if let Some(at) = added.into_iter().chain(again).min() {
            users.wait(who, at, failed);
        }
        drop(users);
        self.pending.added.notify_one();
    }
}
