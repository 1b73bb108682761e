//! The trait and its vocabulary.

use async_trait::async_trait;
use bytes::Bytes;
use polity_core::{LogId, TenantId};

/// Messages that a receiver lost because it was slow, by what lost them.
pub const MESSAGES_LOST: &str = "polity_bus_messages_lost_total";
/// Messages published.
pub const MESSAGES_PUBLISHED: &str = "polity_bus_messages_published_total";

/// Messages, or parts of them, that aren't understood: a later version runs beside this one. Whoever waits is late at most.
pub const MESSAGES_NOT_UNDERSTOOD: &str = "polity_bus_messages_not_understood_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(MESSAGES_PUBLISHED, "Messages published on the bus, by what they are about.");
    metrics::describe_counter!(
        MESSAGES_LOST,
        "Messages that a full receiver lost; each costs it a read of the store, nothing else."
    );
    metrics::describe_counter!(
        MESSAGES_NOT_UNDERSTOOD,
        "Messages, or parts of them, of a kind or format that this version doesn't know, by what they are about."
    );
}

/// Counts a message, or a part of one, that isn't understood: nothing else comes of it.
pub fn not_understood(kind: SubjectKind) {
    metrics::counter!(MESSAGES_NOT_UNDERSTOOD, "kind" => kind.name()).increment(1);
}

/// What a subject is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// Live rows of a room's log.
    Room,
    /// Typing and receipts in a room: what isn't in its log.
    RoomEphemeral,
    /// Wake-ups for a user: record, memberships, device-list changes.
    User,
    /// Wake-ups for a device's inbox.
    Device,
    /// Device-list changes of a tenant.
    DeviceLists,
    /// Signs of life of the cluster's processes.
    Heartbeat,
    /// What processes have written, for all that read: see [`Subject::DIGESTS`].
    Digest,
}

impl SubjectKind {
    /// What it is called, in subjects and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::RoomEphemeral => "room_ephemeral",
            Self::User => "user",
            Self::Device => "device",
            Self::DeviceLists => "device_lists",
            Self::Heartbeat => "heartbeat",
            Self::Digest => "digest",
        }
    }
}

/// Where a message goes: rooms and inboxes by their log, users by the log of their record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// What it is about.
    pub kind: SubjectKind,
    /// Whose it is: nothing crosses tenants.
    pub tenant: TenantId,
    /// Which one.
    pub id: LogId,
}

impl Subject {
    /// The one subject that every process hears that reads: it is no tenant's.
    pub const DIGESTS: Self = Self::new(SubjectKind::Digest, TenantId::new(0), LogId::new([0; 16]));

    /// The subject of a kind, a tenant and a log.
    #[must_use]
    pub const fn new(kind: SubjectKind, tenant: TenantId, id: LogId) -> Self {
        Self { kind, tenant, id }
    }

    /// The subject of a kind that is the whole cluster's.
    #[must_use]
    pub const fn of_cluster(kind: SubjectKind) -> Self {
        Self::new(kind, TenantId::new(0), LogId::new([0; 16]))
    }
}

/// A message with its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject it was published on.
    pub subject: Subject,
    /// What was published.
    pub payload: Bytes,
}

/// What a receiver gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A message.
    Message(Message),
    /// Some messages, of any of its subjects, were lost: look into the store for all of them.
    Lost,
}

/// A process's connection to the news: publishing and receivers.
pub trait Bus: Send + Sync + 'static {
    /// Publishes a message to whoever has subscribed. Never waits; may be lost.
    fn publish(&self, subject: Subject, payload: Bytes);

    /// A new receiver without subjects that holds at most `capacity` messages, and the handle to its subjects.
    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>);
}

/// Which subjects a receiver gets. Dropping it ends them all, and with them the receiver.
#[async_trait]
pub trait Subscriptions: Send + Sync + 'static {
    /// Begins to receive a subject's messages, soon: [`Subscriptions::settled`] says when. Does nothing if it does already.
    fn subscribe(&self, subject: Subject);

    /// Waits until all subscriptions made before are in effect, so that whoever reads the store after it misses nothing. Gives up
    /// after a moment when the bus doesn't answer: then news may be late.
    async fn settled(&self);

    /// Ends it. Messages that were received already may still be handed out.
    fn unsubscribe(&self, subject: Subject);
}

/// Receives messages.
#[async_trait]
pub trait Receiver: Send + 'static {
    /// The next news; waits for it. `None` when the subscriptions were dropped.
    async fn next(&mut self) -> Option<News>;
}
