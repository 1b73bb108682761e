//! What a request costs the store: counted in its own task, for the line that it leaves in the log.
//!
//! Work that several requests share (a log's append) is done in a task of its own and is in no request's count.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

tokio::task_local! {
    static COST: Arc<Cost>;
}

/// Operations of the store and the time that was waited for them.
#[derive(Debug, Default)]
pub struct Cost {
    reads: AtomicU64,
    writes: AtomicU64,
    us: AtomicU64,
}

impl Cost {
    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Microseconds that all of them took; those at once count each.
    #[must_use]
    pub fn us(&self) -> u64 {
        self.us.load(Ordering::Relaxed)
    }
}

/// Runs `future` and adds what it costs to `cost`.
pub fn metered<F: Future>(cost: Arc<Cost>, future: F) -> impl Future<Output = F::Output> {
    COST.scope(cost, future)
}

/// Notes a read of the store in this task's count, if it has one.
pub fn note_read(took: Duration) {
    note(took, |cost| &cost.reads);
}

/// Notes a write of the store in this task's count, if it has one.
pub fn note_write(took: Duration) {
    note(took, |cost| &cost.writes);
}

fn note(took: Duration, count: impl Fn(&Cost) -> &AtomicU64) {
    // Outside of a request there is nobody to tell.
    let _ = COST.try_with(|cost| {
        count(cost).fetch_add(1, Ordering::Relaxed);
        cost.us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_counts_its_own_only() {
        let cost = Arc::new(Cost::default());
        note_read(Duration::from_micros(9));
        metered(Arc::clone(&cost), async {
            note_read(Duration::from_micros(2));
            note_write(Duration::from_micros(3));
            crate::tasks::spawn(async { note_write(Duration::from_micros(9)) }).await.unwrap();
        })
        .await;
        assert_eq!((cost.reads(), cost.writes(), cost.us()), (1, 1, 5));
    }
}
