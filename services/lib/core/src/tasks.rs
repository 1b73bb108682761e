//! Background work that outlives its caller, known to shutdown.
//!
//! A write must not be cut because a client hung up (tonic and hyper drop the handler's future then): it runs in a task of
//! its own. Shutdown waits for all of them.
//!
//! Where several processes share one runtime (the simulation), a task belongs to the [`Process`] that spawned it.

use std::{
    future::Future,
    panic::Location,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;

static TRACKER: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

tokio::task_local! {
    /// Whose task this is. Outside of a simulation there is none.
    static PROCESS: Arc<dyn Process>;
}

/// One of several processes that share a runtime: it says when its tasks go on, and can end them all.
pub trait Process: Send + Sync + 'static {
    /// Whether a task may take its next step; else it is woken when it may.
    fn step(&self, context: &mut Context<'_>) -> Poll<()>;
    /// Takes the handle of a new task, and who spawned it.
    fn began(&self, task: AbortHandle, by: &'static Location<'static>);
}

/// Runs `future` on the current runtime, for the process whose task this is, and lets shutdown wait for it.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match PROCESS.try_with(Arc::clone) {
        Ok(process) => spawn_in(&process, future),
        Err(_) => TRACKER.spawn(future),
    }
}

/// Runs `future` on the current runtime for `process`.
#[track_caller]
pub fn spawn_in<F>(process: &Arc<dyn Process>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let gate = Arc::clone(process);
    // Large ones aren't moved again and again on their way.
    let mut future = Box::pin(future);
    let steps = async move {
        std::future::poll_fn(|context| match gate.step(context) {
            Poll::Ready(()) => future.as_mut().poll(context),
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    let task = TRACKER.spawn(PROCESS.scope(Arc::clone(process), steps));
    process.began(task.abort_handle(), Location::caller());
    task
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
