//! The memory of answers. A first sync of somebody in large rooms takes tens of megabytes until its client has read it: as many of them
//! as clients ask for at once would take all there is. So large answers share a budget while they are made and sent; one that doesn't
//! fit is refused at once, and comes again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::SyncError;
use crate::metric;

/// What each answer may take beside the budget: nearly all take less.
const FREE: u64 = 64 * 1024;

/// The budget of a process.
#[derive(Debug)]
pub struct AnswerBudget {
    limit: u64,
    taken: AtomicU64,
}

/// What one answer takes of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<AnswerBudget>,
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
        Arc::new(Self { limit: u64::try_from(limit).unwrap_or(u64::MAX), taken: AtomicU64::new(0) })
    }

    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), size: AtomicU64::new(0), taken: AtomicU64::new(0) })
    }

    /// Tells how much is taken.
    pub(crate) fn tell_size(&self) {
        metric::answers(self.taken.load(Ordering::Relaxed));
    }
}

impl Share {
    /// Notes that the answer grew by so many bytes.
    ///
    /// # Errors
    /// [`SyncError::Overloaded`], when that is more than there is; never for the only large answer, how large it may be.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), SyncError> {
        // Once as events, and once as it is written.
        let bytes = 2 * u64::try_from(bytes).unwrap_or(u64::MAX / 2);
        let size = self.size.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = self.taken.load(Ordering::Relaxed);
        let more = size.saturating_sub(FREE).saturating_sub(own);
        let fits = |taken: u64| {
            let then = taken.saturating_add(more);
            (then <= self.budget.limit || taken == own).then_some(then)
        };
        if more > 0 {
            if self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
                metric::shed();
                return Err(SyncError::Overloaded);
            }
            self.taken.store(own + more, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Notes that the answer is of this size now: no larger than before.
    pub(crate) fn shrink(&self, bytes: usize) {
        let size = u64::try_from(bytes).unwrap_or(u64::MAX).min(self.size.load(Ordering::Relaxed));
        self.size.store(size, Ordering::Relaxed);
        let own = self.taken.load(Ordering::Relaxed);
        let still = size.saturating_sub(FREE).min(own);
        self.taken.store(still, Ordering::Relaxed);
        self.budget.taken.fetch_sub(own - still, Ordering::Relaxed);
    }

    /// A written answer, which holds its share until it is sent.
    pub(crate) fn written(self: Arc<Self>, bytes: Vec<u8>) -> Bytes {
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

    #[test]
    fn large_answers_share_the_budget_until_they_are_sent() {
        let budget = AnswerBudget::new(1000 * KIB);
        let taken = || budget.taken.load(Ordering::Relaxed);
        let (first, second) = (budget.share(), budget.share());
        first.grow(200 * KIB).unwrap();
        second.grow(300 * KIB).unwrap();
        assert_eq!(taken(), (1000 - 128) * KIB as u64, "twice what they are, but for what each has for itself");
        assert!(matches!(first.grow(100 * KIB), Err(SyncError::Overloaded)));
        let small = budget.share();
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
        let (large, other) = (budget.share(), budget.share());
        for _ in 0..10 {
            large.grow(100 * KIB).unwrap();
        }
        other.grow(10 * KIB).unwrap();
        assert!(other.grow(100 * KIB).is_err());
        large.shrink(0);
        let again = budget.share();
        again.grow(1000 * KIB).unwrap();
        drop((large, other, again));
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }
}
