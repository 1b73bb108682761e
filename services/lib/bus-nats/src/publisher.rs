//! Publishing never waits: messages go into a bounded queue that one task empties, in order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::Client;
use bytes::Bytes;
use polity_bus::{MESSAGES_LOST, MESSAGES_PUBLISHED, Subject};
use polity_core::tasks;
use tokio::sync::mpsc;

use crate::subject;

/// Messages that wait for the connection.
const QUEUE_MESSAGES: usize = 16_384;
/// Bytes of those messages.
const QUEUE_BYTES: usize = 64 << 20;

/// The sending end of the queue.
pub(crate) struct Publisher {
    queue: mpsc::Sender<(Subject, Bytes)>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Publisher {
    /// Begins to publish through `client`; ends when it is dropped.
    pub(crate) fn start(client: Client, prefix: Arc<str>) -> Self {
        let (queue, outgoing) = mpsc::channel(QUEUE_MESSAGES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        tasks::spawn(run(client, prefix, outgoing, Arc::clone(&queued_bytes)));
        Self { queue, queued_bytes }
    }

    /// Queues a message, or loses it.
    pub(crate) fn publish(&self, subject: Subject, payload: Bytes) {
        let size = payload.len();
        let fits = self.queued_bytes.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES;
        if fits && self.queue.try_send((subject, payload)).is_ok() {
            metrics::counter!(MESSAGES_PUBLISHED, "kind" => subject.kind.name()).increment(1);
        } else {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            metrics::counter!(MESSAGES_LOST).increment(1);
        }
    }
}

async fn run(
    client: Client,
    prefix: Arc<str>,
    mut outgoing: mpsc::Receiver<(Subject, Bytes)>,
    queued_bytes: Arc<AtomicUsize>,
) {
    while let Some((subject, payload)) = outgoing.recv().await {
        queued_bytes.fetch_sub(payload.len(), Ordering::Relaxed);
        // Refused: larger than the server takes. Whoever waits for it finds it in the store.
        if let Err(error) = client.publish(subject::text(&prefix, subject), payload).await {
            metrics::counter!(MESSAGES_LOST).increment(1);
            tracing::debug!(%error, "a message was not published");
        }
    }
}
