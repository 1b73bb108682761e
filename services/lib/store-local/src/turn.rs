//! Whose turn it is to write, and what became of the turns before.

use std::{
    ops::{Deref, DerefMut},
    thread,
};

use parking_lot::{Mutex, MutexGuard};
use polity_store::StoreError;
use tokio::sync::watch;

/// One at a time writes: whoever holds it.
pub(crate) struct Turn {
    past: Mutex<Past>,
    failed: watch::Sender<Option<String>>,
}

/// What the turns before have left.
#[derive(Default)]
pub(crate) struct Past {
    /// Why nothing is written any more.
    broken: Option<StoreError>,
    /// Something was written that a power cut would take.
    pub(crate) unsynced: bool,
}

/// A turn. If it ends in a panic it was the last one: nobody knows what was written.
pub(crate) struct Held<'a> {
    past: MutexGuard<'a, Past>,
    failed: &'a watch::Sender<Option<String>>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { past: Mutex::default(), failed: watch::Sender::new(None) }
    }
}

impl Turn {
    /// Waits for one's turn.
    pub(crate) fn take(&self) -> Held<'_> {
        Held { past: self.past.lock(), failed: &self.failed }
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_take(&self) -> Option<Held<'_>> {
        Some(Held { past: self.past.try_lock()?, failed: &self.failed })
    }

    /// Returns once nothing is written any more, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await.map(|reason| reason.clone());
        // The sender is this.
        reason.ok().flatten().unwrap_or_default()
    }
}

impl Held<'_> {
    /// Why nothing is written any more.
    pub(crate) fn broken(&self) -> Option<&StoreError> {
        self.past.broken.as_ref()
    }

    /// Nothing is written any more: what comes later may rest on what could not be written.
    pub(crate) fn end(&mut self, error: &impl ToString) {
        if self.past.broken.is_none() {
            let reason = StoreError::Unavailable(error.to_string());
            self.failed.send_replace(Some(reason.to_string()));
            self.past.broken = Some(reason);
        }
    }
}

impl Deref for Held<'_> {
    type Target = Past;

    fn deref(&self) -> &Past {
        &self.past
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Past {
        &mut self.past
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.end(&"a write was broken off");
        }
    }
}
