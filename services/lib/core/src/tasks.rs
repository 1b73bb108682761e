//! Background work that outlives its caller, known to shutdown.
//!
//! A write must not be cut because a client hung up (tonic and hyper drop the handler's future then): it runs in a task of
//! its own. Shutdown waits for all of them.

use std::{future::Future, sync::LazyLock, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

static TRACKER: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Runs `future` on the current runtime and lets shutdown wait for it.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    TRACKER.spawn(future)
}

/// Waits until every task has ended, or until `limit` has passed. Says whether all have ended.
pub async fn drain(limit: Duration) -> bool {
    TRACKER.close();
    let ended = tokio::time::timeout(limit, TRACKER.wait()).await.is_ok();
    TRACKER.reopen();
    ended
}

/// How many tasks are running.
#[must_use]
pub fn running() -> usize {
    TRACKER.len()
}
