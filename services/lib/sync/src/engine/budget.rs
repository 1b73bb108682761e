//! The memory of answers. A first sync of somebody in large rooms, or all members of one, takes tens of megabytes until its client has
//! read it: as many of them as clients ask for at once would take all there is. So large answers share a budget while they are
//! made and sent; one that doesn't fit is refused at once, and comes again. They are made part by part, in turns, and not by all
//! threads at once: whoever asks for something small doesn't wait for them.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use polity_core::TenantId;
use ruma_common::OwnedUserId;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::SyncError;
use crate::metric;

/// What each answer may take beside the budget: nearly all take less.
const FREE: u64 = 64 * 1024;
/// One user's answers take one of so many parts at most: nobody can take it all.
const PARTS: u64 = 8;

/// Whose answer it is.
type User = (TenantId, OwnedUserId);

/// The budget of a process.
#[derive(Debug)]
pub struct AnswerBudget {
    limit: u64,
    /// As many parts of large answers are made at once; who waits longest is next.
    turns: Semaphore,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    /// Of users with large answers.
    users: HashMap<User, u64>,
}

/// What one answer takes of it, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<AnswerBudget>,
    user: User,
    /// How large the answer is. One request writes it.
    size: AtomicU64,
    /// What of that counts.
    taken: AtomicU64,
}

/// A written answer, and its share.
struct Written {
    bytes: Vec<u8>,
    _share: Arc<Share>,
}

impl AnswerBudget {
    /// One of so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let turns = Semaphore::new((threads / 2).max(1));
        Arc::new(Self { limit: u64::try_from(limit).unwrap_or(u64::MAX), turns, taken: Mutex::default() })
    }

    /// The share of an answer to a user: nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>, user: User) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), user, size: AtomicU64::new(0), taken: AtomicU64::new(0) })
    }

    /// How many bytes are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.lock().all
    }

    /// Tells how much is taken.
    pub(crate) fn tell_size(&self) {
        metric::answers(self.taken());
    }
}

impl Share {
    /// Notes that the answer grew by so many bytes.
    ///
    /// # Errors
    /// [`SyncError::Overloaded`], when that is more than there is, or than the user may take; never for the only large answer (of
    /// the user), how large it may be.
    pub fn grow(&self, bytes: usize) -> Result<(), SyncError> {
        // Once as events, and once as it is written.
        let bytes = 2 * u64::try_from(bytes).unwrap_or(u64::MAX / 2);
        let size = self.size.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = self.taken.load(Ordering::Relaxed);
        let more = size.saturating_sub(FREE).saturating_sub(own);
        if more > 0 {
            self.take(own, more)?;
            self.taken.store(own + more, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A turn to make the next part of the answer, to be given back after it; none is needed while the answer is small. Nothing is read
    /// from the store in it: others wait.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if self.size.load(Ordering::Relaxed) <= FREE {
            return None;
        }
        // Others first, also where nobody waits for a turn.
        tokio::task::yield_now().await;
        // It is never closed.
        self.budget.turns.acquire().await.ok()
    }

    fn take(&self, own: u64, more: u64) -> Result<(), SyncError> {
        let limit = self.budget.limit;
        let fits = |taken: u64, limit: u64| taken == own || taken.saturating_add(more) <= limit;
        let mut taken = self.budget.taken.lock();
        let of_user = taken.users.get(&self.user).copied().unwrap_or(0);
        if !fits(taken.all, limit) || !fits(of_user, limit / PARTS) {
            metric::shed();
            return Err(SyncError::Overloaded);
        }
        taken.all += more;
        taken.users.insert(self.user.clone(), of_user + more);
        Ok(())
    }

    /// Notes that the answer is of this size now: no larger than before.
    pub(crate) fn shrink(&self, bytes: usize) {
        let size = u64::try_from(bytes).unwrap_or(u64::MAX).min(self.size.load(Ordering::Relaxed));
        self.size.store(size, Ordering::Relaxed);
        let own = self.taken.load(Ordering::Relaxed);
        let still = size.saturating_sub(FREE).min(own);
        if still == own {
            return;
        }
        self.taken.store(still, Ordering::Relaxed);
        let mut taken = self.budget.taken.lock();
        taken.all -= own - still;
        if let Some(of_user) = taken.users.get_mut(&self.user) {
            *of_user -= own - still;
            if *of_user == 0 {
                taken.users.remove(&self.user);
            }
        }
    }

    /// A written answer, which holds its share until it is sent.
    #[must_use]
    pub fn written(self: Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.shrink(bytes.len());
        Bytes::from_owner(Written { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn user(name: &str) -> User {
        (TenantId::new(1), OwnedUserId::try_from(format!("@{name}:b")).unwrap())
    }

    #[test]
    fn large_answers_share_the_budget_until_they_are_sent() {
        let budget = AnswerBudget::new(1000 * KIB);
        let taken = || budget.taken.lock().all;
        let (first, second) = (budget.share(user("1")), budget.share(user("2")));
        first.grow(200 * KIB).unwrap();
        second.grow(300 * KIB).unwrap();
        assert_eq!(taken(), (1000 - 128) * KIB as u64, "twice what they are, but for what each has for itself");
        assert!(matches!(first.grow(100 * KIB), Err(SyncError::Overloaded)));
        let small = budget.share(user("3"));
        small.grow(30 * KIB).unwrap();
        // It fails, and the other one goes on.
        drop(first);
        second.grow(100 * KIB).unwrap();
        let body = second.written(vec![0; 400 * KIB]);
        assert_eq!(taken(), (400 - 64) * KIB as u64);
        let part = body.slice(..10);
        drop(body);
        assert!(taken() > 0, "a part is still being sent");
        drop((part, small));
        assert_eq!(taken(), 0);
    }

    #[test]
    fn an_answer_larger_than_the_budget_is_made_alone() {
        let budget = AnswerBudget::new(100 * KIB);
        let (large, other) = (budget.share(user("1")), budget.share(user("2")));
        for _ in 0..10 {
            large.grow(100 * KIB).unwrap();
        }
        other.grow(10 * KIB).unwrap();
        assert!(other.grow(100 * KIB).is_err());
        large.shrink(0);
        let again = budget.share(user("1"));
        again.grow(1000 * KIB).unwrap();
        drop((large, other, again));
        let taken = budget.taken.lock();
        assert_eq!((taken.all, taken.users.len()), (0, 0));
    }

    #[test]
    fn a_user_with_many_answers_leaves_most_of_it_to_others() {
        let budget = AnswerBudget::new(8000 * KIB);
        let (one, two) = (user("1"), user("2"));
        let held: Vec<_> =
            (0..100).map(|_| budget.share(one.clone())).filter(|share| share.grow(100 * KIB).is_ok()).collect();
        assert_eq!(held.len(), 7);
        let other = budget.share(two);
        other.grow(3000 * KIB).unwrap();
        drop(held);
        budget.share(one).grow(500 * KIB).unwrap();
    }
}
