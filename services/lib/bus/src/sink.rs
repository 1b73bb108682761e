//! The two ends of a receiver: a bounded queue, and word of what didn't fit.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

use crate::bus::{MESSAGES_LOST, Message, News, Receiver};

/// Where a receiver's messages go.
pub struct Sink {
    queue: mpsc::Sender<Message>,
    lost: AtomicBool,
    woken: Arc<Notify>,
}

/// What comes out of a [`Sink`], and ends with it.
pub struct SinkReceiver {
    sink: Weak<Sink>,
    woken: Arc<Notify>,
    queue: mpsc::Receiver<Message>,
}

impl Sink {
    /// A sink in which as many messages wait as are said.
    #[must_use]
    pub fn new(capacity: usize) -> (Arc<Self>, SinkReceiver) {
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let woken = Arc::new(Notify::new());
        let sink = Arc::new(Self { queue: sender, lost: AtomicBool::new(false), woken: Arc::clone(&woken) });
        let receiver = SinkReceiver { sink: Arc::downgrade(&sink), woken, queue };
        (sink, receiver)
    }

    /// Gives the receiver a message. One that doesn't fit is lost, and counted.
    pub fn deliver(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            metrics::counter!(MESSAGES_LOST).increment(1);
            self.lost();
        }
    }

    /// Tells the receiver that something was lost.
    pub fn lost(&self) {
        self.lost.store(true, Ordering::Release);
        self.woken.notify_one();
    }
}

#[async_trait]
impl Receiver for SinkReceiver {
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
