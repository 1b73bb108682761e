//! The bus of a single process: bounded channels.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};

use crate::bus::{Bus, MESSAGES_LOST, MESSAGES_PUBLISHED, Message, News, Receiver, Subject, Subscriptions};

/// The in-process bus.
#[derive(Default)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Who listens to what. A subject without listeners isn't in it.
    subjects: RwLock<HashMap<Subject, Vec<Arc<Sink>>>>,
    next_receiver: AtomicU64,
}

/// The sending end of a receiver.
struct Sink {
    id: u64,
    queue: mpsc::Sender<Message>,
    lost: AtomicBool,
    woken: Arc<Notify>,
}

struct LocalSubscriptions {
    shared: Arc<Shared>,
    sink: Arc<Sink>,
    subscribed: Mutex<HashSet<Subject>>,
}

struct LocalReceiver {
    sink: Weak<Sink>,
    woken: Arc<Notify>,
    queue: mpsc::Receiver<Message>,
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
        metrics::counter!(MESSAGES_PUBLISHED).increment(1);
        let subjects = self.shared.subjects.read();
        for sink in subjects.get(&subject).into_iter().flatten() {
            sink.deliver(Message { subject, payload: payload.clone() });
        }
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let id = self.shared.next_receiver.fetch_add(1, Ordering::Relaxed);
        let woken = Arc::new(Notify::new());
        let sink = Arc::new(Sink { id, queue: sender, lost: AtomicBool::new(false), woken: Arc::clone(&woken) });
        let receiver = LocalReceiver { sink: Arc::downgrade(&sink), woken, queue };
        let shared = Arc::clone(&self.shared);
        (Box::new(LocalSubscriptions { shared, sink, subscribed: Mutex::default() }), Box::new(receiver))
    }
}

// === impl Sink ===

impl Sink {
    fn deliver(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            metrics::counter!(MESSAGES_LOST).increment(1);
            self.lost.store(true, Ordering::Release);
            self.woken.notify_one();
        }
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
            self.shared.remove(subject, self.sink.id);
        }
    }
}

impl Drop for LocalSubscriptions {
    fn drop(&mut self) {
        for subject in self.subscribed.lock().drain() {
            self.shared.remove(subject, self.sink.id);
        }
    }
}

// === impl LocalReceiver ===

#[async_trait]
impl Receiver for LocalReceiver {
    async fn next(&mut self) -> Option<News> {
        loop {
            // What was lost is told first: it may concern any subject, and what stands in the queue may follow a hole.
            if self.sink.upgrade().is_some_and(|sink| sink.lost.swap(false, Ordering::AcqRel)) {
                return Some(News::Lost);
            }
            tokio::select! {
                biased;
                () = self.woken.notified() => {}
                message = self.queue.recv() => return message.map(News::Message),
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    fn remove(&self, subject: Subject, receiver: u64) {
        let mut subjects = self.subjects.write();
        if let Some(sinks) = subjects.get_mut(&subject) {
            sinks.retain(|sink| sink.id != receiver);
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
