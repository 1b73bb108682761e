//! To-device messages: a log per device, in the order of arrival, each once.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use bytes::Bytes;
use polity_core::{LogKey, Position, Seq, TenantId};
use polity_log::{Dedup, LogError, LogRow, read};
use polity_store::{Consistency, Write};
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{Accounts, Error, journal::Append};

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;
/// Messages in one answer.
const PAGE: usize = 100;
/// Targets of one request.
const TARGETS: usize = 10_000;

/// A message to one device, or (without device) to all of a user's.
#[derive(Debug, Clone)]
pub struct Message {
    /// To whom.
    pub user_id: OwnedUserId,
    /// To which device.
    pub device_id: Option<OwnedDeviceId>,
    /// The event: type, sender and content, as JSON.
    pub event: Vec<u8>,
}

/// The name of a device's inbox.
pub(crate) fn name(user_id: &UserId, device_id: &DeviceId) -> String {
    format!("{user_id}|{device_id}")
}

/// Nothing stands beside an inbox but its transactions, which the engine notes.
pub(crate) fn project(_key: LogKey, _row: &LogRow) -> Result<Vec<Write>, LogError> {
    Ok(Vec::new())
}

impl Accounts {
    /// Puts messages into inboxes. When it returns all of them are durable; the same transaction gives each once. Devices that
    /// don't exist are passed over.
    ///
    /// # Errors
    /// Some may have arrived: repeat the transaction.
    pub async fn send_to_device(
        &self,
        tenant: TenantId,
        (sender, device_id, txn): (&UserId, &DeviceId, &str),
        messages: Vec<Message>,
    ) -> Result<(), Error> {
        let mut targets = Vec::new();
        for Message { user_id, device_id, event } in messages {
            let devices = self.devices(tenant, &user_id).await?;
            let wanted =
                devices.into_iter().filter(|device| device_id.as_ref().is_none_or(|id| device.device_id == *id));
            targets.extend(wanted.map(|device| (user_id.clone(), device.device_id, event.clone())));
        }
        if targets.len() > TARGETS {
            return Err(Error::TooLarge(format!("messages to more than {TARGETS} devices at once")));
        }
        let from: Box<str> = name(sender, device_id).into();
        for (user_id, target, event) in targets {
            let key = self.inbox_names.find_or_make(tenant, &name(&user_id, &target)).await?;
            let dedup = Some(Dedup { device: from.clone(), txn: txn.into() });
            let body: Bytes = [&[FORMAT, KEY_NONE][..], &event].concat().into();
            self.uses.inboxes.submit(key, Append::plain(body, dedup)).await??.map_err(|_| Error::NoDevice)?;
        }
        Ok(())
    }

    /// At most 100 messages after a position (from the beginning if the inbox has another life), and the position then.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn inbox_after(
        &self,
        tenant: TenantId,
        (user_id, device_id): (&UserId, &DeviceId),
        after: Position,
    ) -> Result<(Vec<Bytes>, Position), Error> {
        let Some(key) = self.inbox_names.find(tenant, &name(user_id, device_id)).await? else {
            return Ok((Vec::new(), after));
        };
        let from = if after.life == key.life { after.seq } else { Seq::ZERO };
        let rows = read::after(&*self.store, key, from, PAGE, Consistency::Quorum).await?;
        let last = rows.last().map_or(from, |row| row.seq);
        let events = rows.into_iter().map(|row| row.body.slice(2.min(row.body.len())..)).collect();
        Ok((events, Position::new(key.life, last)))
    }
}
