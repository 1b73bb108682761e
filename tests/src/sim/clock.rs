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
const MILLION: i64 = 1_000_000;

/// See the module.
pub(super) struct SimClock {
    /// When the simulation began.
    began: Instant,
    /// When the process began.
    started: Instant,
    /// How far its wall time is off, in milliseconds.
    off_ms: AtomicI64,
    /// How much faster it runs since the process began, in millionths. (Timers go by the runtime, which has one clock.)
    drift_ppm: i64,
}

impl SimClock {
    pub(super) fn new(began: Instant, off_ms: i64) -> Self {
        Self { began, started: Instant::now(), off_ms: AtomicI64::new(off_ms), drift_ppm: 0 }
    }

    /// The same, but it runs faster by so many millionths, or slower.
    pub(super) fn drifting(self, drift_ppm: i64) -> Self {
        Self { drift_ppm, ..self }
    }

    /// Sets the wall time so much forward, or back.
    pub(super) fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// How far some clock is off, or how much faster it runs, at most so much.
pub(super) fn off(most: u64, chance: &Chance) -> i64 {
    i64::try_from(chance.below(2 * most + 1)).unwrap_or_default() - i64::try_from(most).unwrap_or_default()
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let lived = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let drifted = lived * self.drift_ppm / MILLION;
        (BEGINNING_MS + passed + drifted + self.off_ms.load(Ordering::Relaxed)).unsigned_abs()
    }

    fn monotonic(&self) -> Duration {
        let faster = u32::try_from(MILLION + self.drift_ppm).unwrap_or_default();
        self.started.elapsed() * faster / u32::try_from(MILLION).unwrap_or(1)
    }
}
