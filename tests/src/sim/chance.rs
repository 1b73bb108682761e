//! Randomness from the seed: each part has its own, so that what one draws changes nothing for another.

use parking_lot::Mutex;
use polity_core::Random;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// See the module.
pub(super) struct Chance(Mutex<StdRng>);

impl Chance {
    /// The randomness of the part of that name.
    pub(super) fn of(seed: u64, name: &str) -> Self {
        let hash = blake3::Hasher::new().update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
        let own = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
        Self(Mutex::new(StdRng::seed_from_u64(own)))
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.lock().random_range(0..bound) }
    }

    /// One of those from `first` to `last`.
    pub(super) fn between(&self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// Whether one of `count` equal chances came true; never of none.
    pub(super) fn one_in(&self, count: u64) -> bool {
        count > 0 && self.below(count) == 0
    }

    /// Whether something happens that happens so often in a thousand times.
    pub(super) fn per_mille(&self, often: u64) -> bool {
        often > 0 && self.below(1000) < often
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        all.get(usize::try_from(self.below(all.len() as u64)).unwrap_or_default())
    }

    /// Puts some of them away, so that each stays with one chance in two, and at least `least` do.
    pub(super) fn some<T>(&self, mut all: Vec<T>, least: usize) -> Vec<T> {
        let mut at = 0;
        while at < all.len() {
            if all.len() > least && self.one_in(2) {
                all.remove(at);
            } else {
                at += 1;
            }
        }
        all
    }
}

impl Random for Chance {
    fn fill(&self, buf: &mut [u8]) {
        self.0.lock().fill(buf);
    }
}
