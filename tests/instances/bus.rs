//! A bus that loses what it is told to lose.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use polity_bus::{Bus, LocalBus, Receiver, Subject, SubjectKind, Subscriptions};

/// See the module.
#[derive(Default)]
pub(crate) struct LossyBus {
    inner: LocalBus,
    loses: Mutex<HashSet<SubjectKind>>,
    lost: AtomicUsize,
    /// Of this kind only every other message arrives.
    halved: Mutex<Option<(SubjectKind, bool)>>,
}

impl LossyBus {
    /// From now on all messages of these kinds are lost, and no others.
    pub(crate) fn lose(&self, kinds: &[SubjectKind]) {
        *self.loses.lock() = kinds.iter().copied().collect();
    }

    /// Of this kind the next message is lost, then one arrives, and so on.
    pub(crate) fn lose_every_other(&self, kind: SubjectKind) {
        *self.halved.lock() = Some((kind, false));
    }

    fn loses(&self, kind: SubjectKind) -> bool {
        if let Some((halved, arrives)) = &mut *self.halved.lock()
            && *halved == kind
        {
            *arrives = !*arrives;
            return *arrives;
        }
        self.loses.lock().contains(&kind)
    }

    /// How many were lost since this was asked last.
    pub(crate) fn lost(&self) -> usize {
        self.lost.swap(0, Ordering::SeqCst)
    }
}

impl Bus for LossyBus {
    fn publish(&self, subject: Subject, payload: Bytes) {
        if self.loses(subject.kind) {
            self.lost.fetch_add(1, Ordering::SeqCst);
        } else {
            self.inner.publish(subject, payload);
        }
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        self.inner.receiver(capacity)
    }
}
