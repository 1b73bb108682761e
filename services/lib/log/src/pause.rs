//! Pauses before something is tried again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The first and the longest pause.
const SHORTEST_MS: u64 = 10;
const LONGEST_MS: u64 = 5_000;

/// Waits before another try: longer each time, and not as long as others do. `who` tells this waiter from them.
pub(crate) async fn pause(who: impl Hash, attempt: u32) {
    if cfg!(test) {
        // Tests have no time.
        return tokio::task::yield_now().await;
    }
    let most = LONGEST_MS.min(SHORTEST_MS << attempt.min(16));
    let mut hasher = DefaultHasher::new();
    (who, attempt).hash(&mut hasher);
    tokio::time::sleep(Duration::from_millis(most / 2 + hasher.finish() % (most / 2 + 1))).await;
}
