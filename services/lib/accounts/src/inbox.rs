//! To-device messages: a log per device, in the order of arrival, each once.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use polity_core::{
    Position, Seq, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::read;
use polity_store::{Consistency, schema, values_of};
use ruma_common::{OwnedDeviceId, OwnedUserId};

use crate::{Accounts, Device, DeviceRef, Error};

mod machine;

#[cfg(feature = "fuzzing")]
pub(crate) use machine::decode;
pub(crate) use machine::{Deliver, InboxMachine, Length, MessageId, Order};
#[cfg(test)]
pub(crate) use machine::{FULL, FULL_BYTES, KEPT, KEPT_BYTES};

/// Messages in one answer.
pub const INBOX_PAGE: usize = 100;
/// Devices that one request reaches.
const TARGETS: usize = 10_000;
/// Bytes that one request leaves in inboxes.
const BYTES: usize = 64 * 1024 * 1024;
/// A message has at most this many bytes, as an event.
const MESSAGE_MAX: usize = 64 * 1024;
/// Inboxes written at once.
const AT_ONCE: usize = 64;

/// A message to one device, or (without device) to all of a user's.
#[derive(Debug, Clone)]
pub struct Message {
    /// To whom.
    pub user_id: OwnedUserId,
    /// To which device.
    pub device_id: Option<OwnedDeviceId>,
    /// The event: type, sender and content, as JSON.
    pub event: Bytes,
}

/// The same for the same sender, transaction and target, and only then.
fn message_id(from: DeviceRef<'_>, txn: &str, to: DeviceRef<'_>) -> MessageId {
    let mut hasher = blake3::Hasher::new_derive_key("polity to-device message v1");
    for part in [from.user_id.as_str(), &from.name(), txn, to.user_id.as_str(), &to.name()] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut id = MessageId::default();
    hasher.finalize_xof().fill(&mut id);
    id
}

impl Accounts {
    /// Puts messages into inboxes. When it returns all of them are durable; the same transaction gives each once. Devices that
    /// don't exist are passed over, and so are those whose inbox is full.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: nothing was sent. Any other: some may have arrived, repeat the transaction.
    pub async fn send_to_device(&self, from: DeviceRef<'_>, txn: &str, messages: Vec<Message>) -> Result<(), Error> {
        let targets = self.targets(from.tenant, messages).await?;
        let at_ms = self.clock.now_ms();
        let delivered = targets.into_iter().map(|(user_id, device, event)| async move {
            let to =
                DeviceRef { tenant: from.tenant, user_id: &user_id, device_id: &device.device_id, life: device.life };
            let message = Deliver { id: message_id(from, txn, to), at_ms, event };
            if self.tell_inbox(to, Order::Deliver(message)).await?.is_long() {
                self.tell_inbox(to, Order::Shrink).await?;
            }
            Ok(())
        });
        // One inbox that can't be written keeps nobody else from theirs.
        let each = stream::iter(delivered).buffer_unordered(AT_ONCE);
        each.fold(Ok(()), async |all, one: Result<(), Error>| all.and(one)).await
    }

    /// The devices that messages are for, each with its message.
    async fn targets(
        &self,
        tenant: TenantId,
        messages: Vec<Message>,
    ) -> Result<Vec<(OwnedUserId, Device, Bytes)>, Error> {
        if messages.len() > TARGETS {
            return Err(Error::TooLarge(format!("messages to more than {TARGETS} devices at once")));
        }
        if messages.iter().any(|message| message.event.len() > MESSAGE_MAX) {
            return Err(Error::TooLarge(format!("a message to a device has at most {MESSAGE_MAX} bytes")));
        }
        let found = messages.into_iter().map(|Message { user_id, device_id, event }| async move {
            let devices = match device_id {
                Some(device_id) => Vec::from_iter(self.device(tenant, &user_id, &device_id).await?),
                None => self.devices(tenant, &user_id).await?,
            };
            Ok::<_, Error>((user_id, devices, event))
        });
        let mut found = stream::iter(found).buffered(AT_ONCE);
        let (mut targets, mut bytes) = (Vec::new(), 0);
        while let Some((user_id, devices, event)) = found.try_next().await? {
            bytes += devices.len() * event.len();
            targets.extend(devices.into_iter().map(|device| (user_id.clone(), device, event.clone())));
            if targets.len() > TARGETS || bytes > BYTES {
                let what = format!("messages to more than {TARGETS} devices, or of more than {BYTES} bytes, at once");
                return Err(Error::TooLarge(what));
            }
        }
        Ok(targets)
    }

    async fn tell_inbox(&self, device: DeviceRef<'_>, order: Order) -> Result<Length, Error> {
        Ok(self.uses.inboxes.submit(device.inbox(), order).await??)
    }

    /// At most 100 messages after a position (from the beginning if the inbox has another life), and the position then. The
    /// device has what stands before that position: now and then that is cleared up.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn inbox_after(&self, device: DeviceRef<'_>, after: Position) -> Result<(Vec<Bytes>, Position), Error> {
        let key = device.inbox();
        let from = if after.life == key.life { after.seq } else { Seq::ZERO };
        let rows = read::after(&*self.store, key, from, INBOX_PAGE, Consistency::Quorum).await?;
        let mut last = rows.last().map_or(from, |row| row.seq);
        if planted(Mutation::InboxPageFromHead) && !rows.is_empty() {
            let head = read::head(&*self.store, key, last, Consistency::Quorum).await?;
            last = head.map_or(last, |found| found.head.seq);
        }
        let many = from.get() / machine::AT_ONCE < last.get() / machine::AT_ONCE;
        if (many || planted(Mutation::InboxTrimmedWhole))
            && from > Seq::ZERO
            && let Err(error) = self.tell_inbox(device, Order::Acknowledged(from)).await
        {
            tracing::debug!(%error, "an inbox isn't cleared up yet");
        }
        let events = rows.iter().map(|row| Ok(machine::decode(&row.body)?.event)).collect::<Result<_, Error>>()?;
        Ok((events, Position::new(key.life, last)))
    }

    /// Takes away the inbox of a device that is gone. What is written to it late is nobody's, and as little as that.
    pub(crate) async fn drop_inbox(&self, device: DeviceRef<'_>) -> Result<(), Error> {
        let key = device.inbox();
        let hint = read::projected_seq(&*self.store, key).await?;
        let found = read::head(&*self.store, key, hint, Consistency::Serial).await?;
        let Some(last) =
            found.map(|found| found.bucket.max(hint.bucket())).or((hint > Seq::ZERO).then(|| hint.bucket()))
        else {
            return Ok(());
        };
        // From the last: those before it lead to it, should this end in between.
        for bucket in (0..=last.to_i64()).rev() {
            self.store.drop_partition(&schema::LOG, values_of![key.tenant, key.log, bucket]).await?;
        }
        Ok(())
    }
}
