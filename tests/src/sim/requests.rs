//! The requests of clients that a process answers at the moment.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// See the module.
#[derive(Default)]
pub(super) struct Requests(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    /// None are taken any more.
    ended: bool,
    under_way: usize,
}

/// One of them.
pub(super) struct UnderWay(Arc<watch::Sender<State>>);

impl Requests {
    /// One begins, if any are taken.
    pub(super) fn begin(&self) -> Option<UnderWay> {
        let begins = self.0.send_if_modified(|state| {
            state.under_way += usize::from(!state.ended);
            !state.ended
        });
        begins.then(|| UnderWay(Arc::clone(&self.0)))
    }

    /// None are taken any more; waits until those under way are answered, but no longer than that. Whether all are.
    pub(super) async fn end(&self, limit: Duration) -> bool {
        self.0.send_modify(|state| state.ended = true);
        let mut state = self.0.subscribe();
        // Whoever isn't answered by then is cut off.
        tokio::time::timeout(limit, state.wait_for(|state| state.under_way == 0)).await.is_ok()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.under_way -= 1);
    }
}
