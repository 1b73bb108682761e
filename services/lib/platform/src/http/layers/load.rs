//! How many requests are under way.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts requests, up to a limit.
#[derive(Debug)]
pub(super) struct Load {
    limit: usize,
    running: AtomicUsize,
}

impl Load {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, running: AtomicUsize::new(0) }
    }

    /// Takes a place; whether there was one.
    pub(super) fn enter(&self) -> bool {
        // Nothing else is ordered by this number.
        if self.running.fetch_add(1, Ordering::Relaxed) < self.limit {
            return true;
        }
        self.leave();
        false
    }

    /// Takes a place even if there is none.
    pub(super) fn come_back(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
