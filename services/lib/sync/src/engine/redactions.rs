//! Redacted events as readers get them, and receipts for display.

use std::sync::Arc;

use bytes::Bytes;
use polity_core::{LogKey, Seq};
use polity_store::{rooms, users};
use ruma_common::{RoomId, UserId};

use super::{Engine, Share, SyncError, pass::Redactions};
use crate::{
    ephemeral::Receipt,
    read::{ReadError, RoomState, StateView, StoredRow, Unsigned, render},
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
            for redacted in redacted {
                if let Some(row) = self.rooms.event(key.tenant, &redacted.by).await? {
                    out.insert(redacted.seq, row);
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
        let redacted = redacted(head, row).ok()?;
        let because = render(because, room_id, &Unsigned::default());
        let unsigned = Unsigned { redacted_because: because, ..unsigned.clone() };
        render(&redacted, room_id, &unsigned)
    }

    /// Rows as they may be read: the redacted ones of them with what redaction left.
    ///
    /// # Errors
    /// When something can't be read.
    pub async fn as_redacted(
        &self,
        key: LogKey,
        head: &RoomState,
        mut rows: Vec<Arc<StoredRow>>,
    ) -> Result<Vec<Arc<StoredRow>>, SyncError> {
        let redactions = self.redactions(key, head, &rows).await?;
        for row in rows.iter_mut().filter(|row| redactions.contains_key(&row.seq)) {
            *row = Arc::new(redacted(head, row)?);
        }
        Ok(rows)
    }

    /// The state event that a row replaced, as it may be read.
    pub(crate) async fn replaced(
        &self,
        key: LogKey,
        head: &RoomState,
        row: &StoredRow,
    ) -> Result<Option<Arc<StoredRow>>, SyncError> {
        let own = row.event.as_ref().map(|event| &event.event_id);
        let change = row.meta.deltas.iter().find(|delta| delta.after.is_some() && delta.after.as_ref() == own);
        let Some(before) = change.and_then(|delta| delta.before.as_deref()) else { return Ok(None) };
        let before = self.rooms.event_of_state(key, before).await?;
        Ok(self.as_redacted(key, head, before.into_iter().collect()).await?.pop())
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

impl Engine {
    /// The state after a row, which is for those who may see the row; `None` for who may not. `is_member`: as for
    /// [`Self::render_rows`].
    ///
    /// # Errors
    /// When something can't be read.
    pub async fn state_seen_after(
        &self,
        viewer: &super::Viewer,
        key: LogKey,
        seq: Seq,
        is_member: bool,
    ) -> Result<Option<StateView>, SyncError> {
        let row = self.rooms.back(key, seq, 1).await?.pop().filter(|row| row.seq == seq);
        let Some(row) = row else { return Ok(Some(StateView::default())) };
        let start = super::window::state_before(&self.rooms, key, &row).await?;
        let rows = [Arc::clone(&row)];
        let seen = super::visibility::decide(&self.rooms, key, &viewer.user_id, &start, &rows, is_member).await?;
        Ok(seen.iter().all(|row| row.visible).then(|| start.after(&row)))
    }

    /// Rows as a user may see them, each with the room's id; `None` for one that the user may not see. `is_member`: the user is in the
    /// room, or was up to these rows, so that shared history is open whenever it was written.
    ///
    /// # Errors
    /// When something can't be read.
    pub async fn render_rows(
        &self,
        viewer: &super::Viewer,
        key: LogKey,
        head: &RoomState,
        rows: &[Arc<StoredRow>],
        is_member: bool,
    ) -> Result<Vec<Option<Bytes>>, SyncError> {
        let redactions = self.redactions(key, head, rows).await?;
        let mut out: Vec<Option<Bytes>> = vec![None; rows.len()];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|at| rows[*at].seq);
        // Runs without a hole are decided from the state before their first row on.
        for run in order.chunk_by(|a, b| rows[*a].seq.next() == rows[*b].seq) {
            let Some(first) = run.first() else { continue };
            let start = super::window::state_before(&self.rooms, key, &rows[*first]).await?;
            let of_run: Vec<_> = run.iter().map(|at| Arc::clone(&rows[*at])).collect();
            let seen = super::visibility::decide(&self.rooms, key, &viewer.user_id, &start, &of_run, is_member).await?;
            for (at, seen) in run.iter().zip(seen) {
                if seen.visible {
                    out[*at] = self
                        .render_row(viewer, key, head, &rows[*at], &seen.membership, redactions.get(&rows[*at].seq))
                        .await?;
                }
            }
        }
        Ok(out)
    }

    async fn render_row(
        &self,
        viewer: &super::Viewer,
        key: LogKey,
        head: &RoomState,
        row: &Arc<StoredRow>,
        membership: &str,
        redacted_by: Option<&Arc<StoredRow>>,
    ) -> Result<Option<Bytes>, SyncError> {
        let Some(event) = &row.event else { return Ok(None) };
        let replaced = self.replaced(key, head, row).await?;
        let device = viewer.sending_device();
        let unsigned = Unsigned {
            age_ms: Some(self.clock.now_ms().saturating_sub(event.origin_server_ts)),
            membership: Some(membership),
            transaction_id: row.transaction_of(&device),
            replaced: replaced.as_deref().and_then(|row| row.event.as_ref()),
            redacted_because: None,
        };
        let room_id = Some(&*head.room.room_id);
        Ok(match redacted_by {
            Some(because) => self.render_redacted(head, row, because, room_id, &unsigned),
            None => render(row, room_id, &unsigned),
        })
    }

    /// State events for a client, each with the room's id; redacted ones as redaction left them. In a turn of the answer's `share`.
    ///
    /// # Errors
    /// When something can't be read.
    pub async fn render_state_rows(
        &self,
        viewer: &super::Viewer,
        key: LogKey,
        head: &RoomState,
        rows: &[Arc<StoredRow>],
        share: &Share,
    ) -> Result<Vec<Bytes>, SyncError> {
        self.render_state(viewer, key, (head, Some(&head.room.room_id)), rows, share).await
    }

    /// The same. `room_id` where it doesn't follow from their place.
    pub(crate) async fn render_state(
        &self,
        viewer: &super::Viewer,
        key: LogKey,
        (head, room_id): (&RoomState, Option<&RoomId>),
        rows: &[Arc<StoredRow>],
        share: &Share,
    ) -> Result<Vec<Bytes>, SyncError> {
        let redactions = self.redactions(key, head, rows).await?;
        let _turn = share.turn().await;
        let render_one = |row: &Arc<StoredRow>| {
            let event = row.event.as_ref()?;
            let age_ms = Some(self.clock.now_ms().saturating_sub(event.origin_server_ts));
            let unsigned = Unsigned { age_ms, transaction_id: viewer.transaction_of(row), ..Unsigned::default() };
            match redactions.get(&row.seq) {
                Some(because) => self.render_redacted(head, row, because, room_id, &unsigned),
                None => render(row, room_id, &unsigned),
            }
        };
        Ok(rows.iter().filter_map(render_one).collect())
    }
}

fn redacted(head: &RoomState, row: &StoredRow) -> Result<StoredRow, ReadError> {
    let unknown = || ReadError::Damaged(format!("a room of the unknown version {}", head.room.version));
    Ok(row.redacted(&head.room.room_id, &head.room.version.rules().ok_or_else(unknown)?)?)
}
