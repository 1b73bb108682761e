//! Redacted events as readers get them, and receipts for display.

use std::sync::Arc;

use bytes::Bytes;
use polity_core::LogKey;
use polity_room_engine::{pdu::Pdu, redact};
use polity_store::{rooms, users};
use ruma_common::{RoomId, UserId};

use super::{Engine, SyncError, pass::Redactions};
use crate::{
    ephemeral::Receipt,
    read::{ReadError, RoomState, StoredRow, Unsigned, render, render_redacted},
};

impl Engine {
    /// The redacted ones of some rows, with the rows that redacted them. Without a read if the room has no redactions.
    pub(crate) async fn redactions(
        &self,
        key: LogKey,
        head: &RoomState,
        rows: &[Arc<StoredRow>],
    ) -> Result<Redactions, SyncError> {
        let mut out = Redactions::new();
        if head.room.redactions == 0 {
            return Ok(out);
        }
        let mut seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
        seqs.sort();
        for bucket in seqs.chunk_by(|a, b| a.bucket() == b.bucket()) {
            let (Some(first), Some(last)) = (bucket.first(), bucket.last()) else { continue };
            let redacted =
                rooms::redactions_between(&*self.store, key, *first, *last).await.map_err(ReadError::from)?;
            for (seq, by) in redacted {
                if let Some(row) = self.rooms.event(key.tenant, &by).await? {
                    out.insert(seq, row);
                }
            }
        }
        Ok(out)
    }

    /// A redacted event for a client: what redaction leaves, and why.
    pub(crate) fn render_redacted(
        &self,
        head: &RoomState,
        row: &StoredRow,
        because: &StoredRow,
        room_id: Option<&RoomId>,
        unsigned: &Unsigned<'_>,
    ) -> Option<Bytes> {
        let event = row.event.as_ref()?;
        let rules = head.room.version.rules()?;
        let pdu =
            Pdu::from_stored(event.event_id.clone(), head.room.room_id.clone(), event.pdu.clone(), &rules).ok()?;
        let redacted = redact::redact(&pdu, &rules).ok()?;
        let because = render(because, room_id, &Unsigned::default());
        let unsigned = Unsigned { redacted_because: because, ..unsigned.clone() };
        Some(render_redacted(event, redacted.content().get(), room_id, &unsigned))
    }

    /// A room's receipts from the store.
    pub(crate) async fn stored_receipts(&self, key: LogKey, viewer: &UserId) -> Result<Vec<Receipt>, SyncError> {
        let stored = users::display_receipts(&*self.store, key).await.map_err(ReadError::from)?;
        let receipts = stored.into_iter().map(|receipt| Receipt {
            private: receipt.kind == "m.read.private",
            thread: Some(receipt.thread).filter(|thread| !thread.is_empty()),
            user_id: receipt.user_id,
            event_id: receipt.event_id,
            at_ms: receipt.at_ms,
        });
        Ok(receipts.filter(|receipt| !receipt.private || receipt.user_id == viewer).collect())
    }
}
