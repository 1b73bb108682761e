//! A receiver: the subjects that it wants, and one task that gathers their messages.
//!
//! Subscribing is a word to the server, which takes effect when the server reads it. Whoever must know that it has
//! ([`Subscriptions::settled`]) waits for an echo: a message to oneself that went out after the subscriptions, on the same connection.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_nats::Client;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{AbortHandle, BoxStream, SelectAll, abortable},
};
use parking_lot::Mutex;
pub(crate) use polity_bus::Sink;
use polity_bus::{Message, SinkReceiver, Subject, Subscriptions};
use polity_core::tasks;
use tokio::sync::{Notify, watch};

use crate::{connection::Sinks, metric, subject};

/// How long [`Subscriptions::settled`] waits for the echo: without it news is late, not lost.
const ECHO: Duration = Duration::from_millis(500);

pub(crate) struct NatsSubscriptions {
    shared: Arc<Shared>,
    /// The newest change that took effect.
    settled: watch::Receiver<u64>,
    sinks: Arc<Sinks>,
}

/// What subscriptions and the gathering task share.
#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

#[derive(Default)]
struct Wanted {
    subjects: HashSet<Subject>,
    /// What changed and isn't done yet; the newest word on each subject.
    pending: HashMap<Subject, bool>,
    /// Counts changes.
    number: u64,
    closed: bool,
}

/// A subject's messages; `None` stands for the echo.
type Gathered = BoxStream<'static, (Option<Subject>, async_nats::Message)>;

struct Gatherer {
    client: Client,
    prefix: Arc<str>,
    shared: Arc<Shared>,
    sink: Arc<Sink>,
    streams: SelectAll<Gathered>,
    handles: HashMap<Subject, AbortHandle>,
    /// The subject on which this task writes to itself.
    echo: String,
    settled: watch::Sender<u64>,
}

/// A receiver without subjects.
pub(crate) fn make(
    client: Client,
    prefix: Arc<str>,
    sinks: &Arc<Sinks>,
    capacity: usize,
) -> (NatsSubscriptions, SinkReceiver, Arc<Sink>) {
    let (sink, receiver) = Sink::new(capacity);
    let shared = Arc::new(Shared::default());
    let (settled_sender, settled) = watch::channel(0);
    let echo = client.new_inbox();
    let gatherer = Gatherer {
        client,
        prefix,
        shared: Arc::clone(&shared),
        sink: Arc::clone(&sink),
        streams: SelectAll::new(),
        handles: HashMap::new(),
        echo,
        settled: settled_sender,
    };
    tasks::spawn(gatherer.run());
    (NatsSubscriptions { shared, settled, sinks: Arc::clone(sinks) }, receiver, sink)
}

// === impl NatsSubscriptions ===

impl NatsSubscriptions {
    fn want(&self, subject: Subject, yes: bool) {
        let mut wanted = self.shared.wanted.lock();
        let changed = if yes { wanted.subjects.insert(subject) } else { wanted.subjects.remove(&subject) };
        if changed {
            wanted.pending.insert(subject, yes);
            wanted.number += 1;
            drop(wanted);
            self.shared.changed.notify_one();
        }
    }
}

#[async_trait]
impl Subscriptions for NatsSubscriptions {
    fn subscribe(&self, subject: Subject) {
        self.want(subject, true);
    }

    fn unsubscribe(&self, subject: Subject) {
        self.want(subject, false);
    }

    async fn settled(&self) {
        if self.sinks.are_away() {
            // Nothing comes, and once it does everybody is told that something was lost.
            return;
        }
        let number = self.shared.wanted.lock().number;
        let mut settled = self.settled.clone();
        let echoed = settled.wait_for(|settled| *settled >= number);
        if tokio::time::timeout(ECHO, echoed).await.is_err() {
            tracing::debug!("subscriptions take effect late");
        }
    }
}

impl Drop for NatsSubscriptions {
    fn drop(&mut self) {
        self.shared.wanted.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

// === impl Gatherer ===

impl Gatherer {
    async fn run(mut self) {
        if !self.listen_to_itself().await {
            return;
        }
        loop {
            tokio::select! {
                () = self.shared.changed.notified() => {
                    if !self.change().await {
                        break;
                    }
                }
                Some((subject, message)) = self.streams.next() => match subject {
                    Some(subject) => self.sink.deliver(Message { subject, payload: message.payload }),
                    None => self.echoed(&message.payload),
                },
            }
        }
        metrics::gauge!(metric::SUBSCRIPTIONS).decrement(count(self.handles.len()));
    }

    async fn listen_to_itself(&mut self) -> bool {
        match self.client.subscribe(self.echo.clone()).await {
            Ok(stream) => self.streams.push(stream.map(|message| (None, message)).boxed()),
            Err(error) => {
                tracing::error!(%error, "a receiver has no connection to NATS");
                return false;
            }
        }
        true
    }

    /// Says to the server what changed; `false` when the receiver is no longer wanted.
    async fn change(&mut self) -> bool {
        let (pending, number) = {
            let mut wanted = self.shared.wanted.lock();
            if wanted.closed {
                return false;
            }
            (std::mem::take(&mut wanted.pending), wanted.number)
        };
        for (subject, yes) in pending {
            if !yes {
                if let Some(handle) = self.handles.remove(&subject) {
                    handle.abort();
                    metrics::gauge!(metric::SUBSCRIPTIONS).decrement(1.0);
                }
            } else if !self.handles.contains_key(&subject) {
                self.subscribe(subject).await;
            }
        }
        if let Err(error) = self.client.publish(self.echo.clone(), Bytes::copy_from_slice(&number.to_be_bytes())).await
        {
            tracing::debug!(%error, "no echo is asked for");
        }
        true
    }

    async fn subscribe(&mut self, subject: Subject) {
        match self.client.subscribe(subject::text(&self.prefix, subject)).await {
            Ok(stream) => {
                let (stream, handle) = abortable(stream);
                self.streams.push(stream.map(move |message| (Some(subject), message)).boxed());
                self.handles.insert(subject, handle);
                metrics::gauge!(metric::SUBSCRIPTIONS).increment(1.0);
            }
            Err(error) => {
                tracing::error!(%error, "a subject can't be subscribed to");
                self.sink.lost();
            }
        }
    }

    /// All changes up to the number in an echo have reached the server.
    fn echoed(&self, payload: &[u8]) {
        if let Ok(number) = payload.try_into().map(u64::from_be_bytes) {
            self.settled.send_if_modified(|settled| std::mem::replace(settled, number.max(*settled)) < number);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn count(number: usize) -> f64 {
    number as f64
}
