//! How much may be tried again: a tenth of what is asked, so that trouble doesn't feed itself.

use std::sync::atomic::{AtomicI64, Ordering};

/// In tenths of a retry.
const RETRY: i64 = 10;
/// Retries at hand when nothing was asked yet, and at most.
const MOST: i64 = 64 * RETRY;

/// See the module.
pub(crate) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Budget {
    /// Something is asked for the first time.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_tried_again() {
        let budget = Budget::default();
        let at_hand = std::iter::from_fn(|| budget.take().then_some(())).count();
        assert_eq!(at_hand, 64);
        (0..100).for_each(|_| budget.earn());
        assert_eq!(std::iter::from_fn(|| budget.take().then_some(())).count(), 10);
    }
}
