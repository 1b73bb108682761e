//! A process's clocks: wall time that may be wrong, and jump; monotonic time that goes on while the process is stopped.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use polity_core::Clock;
use tokio::time::Instant;

use super::chance::Chance;

/// When simulations begin (milliseconds since 1970).
const BEGINNING_MS: i64 = 1_800_000_000_000;

/// See the module.
pub(super) struct SimClock {
    /// When the simulation began.
    began: Instant,
    /// When the process began.
    started: Instant,
    /// How far its wall time is off, in milliseconds.
    off_ms: AtomicI64,
}

impl SimClock {
    pub(super) fn new(began: Instant, off_ms: i64) -> Self {
        Self { began, started: Instant::now(), off_ms: AtomicI64::new(off_ms) }
    }

    /// Sets the wall time so much forward, or back.
    pub(super) fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// How far some clock is off, at most so far.
pub(super) fn off(most_ms: u64, chance: &Chance) -> i64 {
    let most = i64::try_from(most_ms).unwrap_or_default();
    i64::try_from(chance.below(2 * most_ms + 1)).unwrap_or_default() - most
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        (BEGINNING_MS + passed + self.off_ms.load(Ordering::Relaxed)).unsigned_abs()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
