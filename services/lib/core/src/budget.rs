//! How much may be tried again: a share of what goes well or is asked for the first time, so that trouble doesn't feed itself.

use std::sync::atomic::{AtomicI64, Ordering};

/// In tenths of a retry.
const RETRY: i64 = 10;
/// Retries at hand in the beginning, and at most.
const MOST: i64 = 64 * RETRY;

/// See the module.
#[derive(Debug)]
pub struct RetryBudget {
    left: AtomicI64,
    earned: i64,
}

impl RetryBudget {
    /// One that [`RetryBudget::earn`] gives so many tenths of a retry.
    #[must_use]
    pub fn earning(tenths: u32) -> Self {
        Self { left: AtomicI64::new(MOST), earned: tenths.into() }
    }

    /// Something has succeeded, or is asked for the first time.
    pub fn earn(&self) {
        if self.left.load(Ordering::Relaxed) < MOST {
            self.left.fetch_add(self.earned, Ordering::Relaxed);
        }
    }

    /// Whether something may be tried again.
    pub fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= RETRY).then_some(left - RETRY))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_tried_again() {
        let budget = RetryBudget::earning(1);
        let at_hand = std::iter::from_fn(|| budget.take().then_some(())).count();
        assert_eq!(at_hand, 64);
        (0..100).for_each(|_| budget.earn());
        assert_eq!(std::iter::from_fn(|| budget.take().then_some(())).count(), 10);
    }
}
