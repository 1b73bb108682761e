//! How much may be tried again: a tenth of what succeeds, so that contention doesn't feed itself; more where several write.

use std::sync::atomic::{AtomicI64, Ordering};

/// In tenths of a retry.
const RETRY: i64 = 10;
/// Retries at hand when nothing has succeeded yet, and at most.
const MOST: i64 = 64 * RETRY;

/// See the module.
pub(crate) struct Retries {
    left: AtomicI64,
    earned: i64,
}

impl Retries {
    /// Those of logs with one writer: a tenth of what succeeds.
    pub(crate) fn few() -> Self {
        Self { left: AtomicI64::new(MOST), earned: 1 }
    }

    /// Those of logs with several writers, of whom all but one lose each time that they write at once.
    pub(crate) fn many() -> Self {
        Self { left: AtomicI64::new(MOST), earned: 4 * RETRY }
    }

    /// Something succeeded.
    pub(crate) fn earn(&self) {
        if self.left.load(Ordering::Relaxed) < MOST {
            self.left.fetch_add(self.earned, Ordering::Relaxed);
        }
    }

    /// Whether something may be tried again.
    pub(crate) fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= RETRY).then_some(left - RETRY))
            .is_ok()
    }
}
