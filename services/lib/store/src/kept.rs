//! What was read of users' partitions, kept for as long as it is exact.

use std::{future::Future, hash::Hash, sync::OnceLock};

use metrics::Counter;
use quick_cache::{Weighter, sync::Cache};

use crate::Mark;

const HITS: &str = "polity_kept_hits_total";
const MISSES: &str = "polity_kept_misses_total";
const BYTES: &str = "polity_kept_bytes";
/// What an entry takes beside itself, about.
const OVERHEAD: u64 = 64;

/// A cache of what was read, bounded in bytes. An entry is trusted while its mark stands where it stood before the read.
pub struct Kept<K, V> {
    name: &'static str,
    cache: Cache<K, (Mark, V), ByWeight<K, V>>,
    /// Looked up once: a hit costs little more than it.
    hits: OnceLock<Counter>,
}

struct ByWeight<K, V>(fn(&K, &V) -> u64);

impl<K, V> Clone for ByWeight<K, V> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<K, V> Weighter<K, (Mark, V)> for ByWeight<K, V> {
    fn weight(&self, key: &K, (_, value): &(Mark, V)) -> u64 {
        OVERHEAD + (self.0)(key, value)
    }
}

/// Describes what caches tell about themselves.
pub(crate) fn describe() {
    metrics::describe_counter!(HITS, "What was found in memory, by cache.");
    metrics::describe_counter!(MISSES, "What had to be read, by cache.");
    metrics::describe_gauge!(BYTES, metrics::Unit::Bytes, "About how large a cache is.");
}

impl<K: Hash + Eq + Clone, V: Clone> Kept<K, V> {
    /// A cache of at most `bytes`; `weigh` says about how many an entry takes. `name` is what metrics call it.
    #[must_use]
    pub fn new(name: &'static str, bytes: u64, weigh: fn(&K, &V) -> u64) -> Self {
        let items = usize::try_from(bytes / 256).unwrap_or(1024);
        Self { name, cache: Cache::with_weighter(items, bytes, ByWeight(weigh)), hits: OnceLock::new() }
    }

    /// What is kept, if it is as good as a read; else what `read` gives, kept from now on. `mark` is that of all that `read` reads.
    ///
    /// # Errors
    /// Those of `read`. Nothing is kept then.
    pub async fn get_or_read<E>(&self, key: &K, mark: Mark, read: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        if let Some((at, value)) = self.cache.get(key)
            && at == mark
        {
            self.hits.get_or_init(|| metrics::counter!(HITS, "cache" => self.name)).increment(1);
            return Ok(value);
        }
        let value = read.await?;
        self.cache.insert(key.clone(), (mark, value.clone()));
        metrics::counter!(MISSES, "cache" => self.name).increment(1);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(BYTES, "cache" => self.name).set(self.cache.weight() as f64);
        Ok(value)
    }
}
