//! A token bucket per key, in bounded memory.
//!
//! A bucket is one number: the time at which it would be full again (the "generic cell rate algorithm"). Keys are kept as
//! keyed hashes in two generations: when the young one is full it becomes the old one, and what was in the old one is
//! forgotten. So memory is bounded whatever clients do, and a bucket that is in use is never forgotten before as many other
//! keys came as a generation holds.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    mem,
    time::Duration,
};

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// How often: a rate in the long run, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Nanoseconds that one costs.
    cost: u64,
    /// Nanoseconds that may be owed.
    tolerance: u64,
}

impl Quota {
    /// `per_s` in the long run, `burst` at once. None when either is not greater than zero.
    #[must_use]
    pub fn new(per_s: f64, burst: u32) -> Option<Self> {
        if !(per_s.is_finite() && per_s > 0.0 && burst > 0) {
            return None;
        }
        let cost = Duration::try_from_secs_f64(1.0 / per_s).map_or(u64::MAX, nanoseconds).max(1);
        Some(Self { cost, tolerance: cost.saturating_mul(u64::from(burst - 1)) })
    }
}

/// Come again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too often: come again in {} ms", .retry_after.as_millis())]
pub struct Limited {
    /// How long to wait.
    pub retry_after: Duration,
}

/// Buckets of one quota, by key.
#[derive(Debug)]
pub struct RateLimiter {
    quota: Quota,
    per_generation: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    old: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl RateLimiter {
    /// A limiter that remembers the last `capacity` keys at least, and twice as many at most, in some 40 bytes each.
    #[must_use]
    pub fn new(quota: Quota, capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { quota, per_generation: capacity.div_ceil(SHARDS).max(1), hasher: RandomState::new(), shards }
    }

    /// Takes one from the key's bucket. `now` is monotonic time.
    ///
    /// # Errors
    /// When it is empty: nothing is taken.
    pub fn check(&self, key: impl Hash, now: Duration) -> Result<(), Limited> {
        let (hash, now) = (self.hasher.hash_one(key), nanoseconds(now));
        let shard = usize::try_from(hash >> 60).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[shard].lock();
        let full_at = shard.young.get(&hash).or_else(|| shard.old.get(&hash)).copied().unwrap_or(0).max(now);
        let allowed = now.saturating_add(self.quota.tolerance);
        if full_at > allowed {
            return Err(Limited { retry_after: Duration::from_nanos(full_at - allowed) });
        }
        if shard.young.len() >= self.per_generation && !shard.young.contains_key(&hash) {
            let mut forgotten = mem::take(&mut shard.old);
            forgotten.clear();
            shard.old = mem::replace(&mut shard.young, forgotten);
        }
        shard.young.insert(hash, full_at.saturating_add(self.quota.cost));
        Ok(())
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock()).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_s: f64, burst: u32) -> RateLimiter {
        RateLimiter::new(Quota::new(per_s, burst).unwrap(), 1000)
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let limiter = limiter(2.0, 3);
        let start = Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(limiter.check("a", start), Ok(()));
        }
        assert_eq!(limiter.check("a", start), Err(Limited { retry_after: Duration::from_millis(500) }));
        assert_eq!(limiter.check("b", start), Ok(()), "another key has a bucket of its own");
        assert!(limiter.check("a", start + Duration::from_millis(499)).is_err());
        assert_eq!(limiter.check("a", start + Duration::from_millis(500)), Ok(()));
        assert!(limiter.check("a", start + Duration::from_millis(500)).is_err());
        let later = start + Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(limiter.check("a", later), Ok(()));
        }
        assert!(limiter.check("a", later).is_err(), "a bucket holds no more than its burst");
    }

    #[test]
    fn refusals_cost_nothing() {
        let limiter = limiter(1.0, 1);
        limiter.check("a", Duration::ZERO).unwrap();
        for ms in (0..1000).step_by(10) {
            assert!(limiter.check("a", Duration::from_millis(ms)).is_err());
        }
        assert_eq!(limiter.check("a", Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_a_busy_key_is_remembered() {
        let limiter = limiter(0.001, 1);
        limiter.check("busy", Duration::ZERO).unwrap();
        for n in 0..900_u32 {
            limiter.check(n, Duration::ZERO).unwrap();
        }
        assert!(limiter.check("busy", Duration::ZERO).is_err());
        for n in 1000..100_000_u32 {
            limiter.check(n, Duration::ZERO).unwrap();
        }
        assert!(limiter.len() <= 2 * 1008, "{}", limiter.len());
    }

    #[test]
    fn a_quota_of_nothing_is_none() {
        assert_eq!(Quota::new(0.0, 1), None);
        assert_eq!(Quota::new(f64::NAN, 1), None);
        assert_eq!(Quota::new(1.0, 0), None);
    }
}
