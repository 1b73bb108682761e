//! How much may be tried again: a tenth of what succeeds, so that contention doesn't feed itself.

use std::sync::atomic::{AtomicI64, Ordering};

/// In tenths of a retry.
const RETRY: i64 = 10;
/// Retries at hand when nothing has succeeded yet, and at most.
const MOST: i64 = 64 * RETRY;

/// See the module.
pub(crate) struct Retries(AtomicI64);

impl Default for Retries {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Retries {
    /// Something succeeded.
    pub(crate) fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < MOST {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether something may be tried again.
    pub(crate) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= RETRY).then_some(left - RETRY))
            .is_ok()
    }
}
