//! The bus of a single process: bounded channels.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::{
    bus::{Bus, MESSAGES_PUBLISHED, Message, Receiver, Subject, Subscriptions},
    sink::Sink,
};

/// The in-process bus.
#[derive(Default)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Who listens to what. A subject without listeners isn't in it.
    subjects: RwLock<HashMap<Subject, Vec<Arc<Sink>>>>,
}

struct LocalSubscriptions {
    shared: Arc<Shared>,
    sink: Arc<Sink>,
    subscribed: Mutex<HashSet<Subject>>,
}

// === impl LocalBus ===

impl LocalBus {
    /// A bus without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Bus for LocalBus {
    fn publish(&self, subject: Subject, payload: Bytes) {
        metrics::counter!(MESSAGES_PUBLISHED, "kind" => subject.kind.name()).increment(1);
        let subjects = self.shared.subjects.read();
        for sink in subjects.get(&subject).into_iter().flatten() {
            sink.deliver(Message { subject, payload: payload.clone() });
        }
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        let (sink, receiver) = Sink::new(capacity);
        let shared = Arc::clone(&self.shared);
        (Box::new(LocalSubscriptions { shared, sink, subscribed: Mutex::default() }), Box::new(receiver))
    }
}

// === impl LocalSubscriptions ===

#[async_trait]
impl Subscriptions for LocalSubscriptions {
    fn subscribe(&self, subject: Subject) {
        if self.subscribed.lock().insert(subject) {
            self.shared.subjects.write().entry(subject).or_default().push(Arc::clone(&self.sink));
        }
    }

    async fn settled(&self) {}

    fn unsubscribe(&self, subject: Subject) {
        if self.subscribed.lock().remove(&subject) {
            self.shared.remove(subject, &self.sink);
        }
    }
}

impl Drop for LocalSubscriptions {
    fn drop(&mut self) {
        for subject in self.subscribed.lock().drain() {
            self.shared.remove(subject, &self.sink);
        }
    }
}

// === impl Shared ===

impl Shared {
    fn remove(&self, subject: Subject, receiver: &Arc<Sink>) {
        let mut subjects = self.subjects.write();
        if let Some(sinks) = subjects.get_mut(&subject) {
            sinks.retain(|sink| !Arc::ptr_eq(sink, receiver));
            if sinks.is_empty() {
                subjects.remove(&subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_local_bus_keeps_the_contract() {
        crate::suite::all(Arc::new(LocalBus::new())).await;
    }

    #[tokio::test]
    async fn dropped_subscriptions_leave_nothing_behind() {
        let bus = LocalBus::new();
        let (subscriptions, mut receiver) = bus.receiver(1);
        subscriptions.subscribe(crate::suite::subject(1));
        assert_eq!(bus.shared.subjects.read().len(), 1);
        drop(subscriptions);
        assert_eq!(receiver.next().await, None);
        assert_eq!(bus.shared.subjects.read().len(), 0);
    }
}
