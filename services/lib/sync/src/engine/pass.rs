//! One look at one room for one client: what its sections have in common.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use polity_core::{LogKey, Seq};
use ruma_common::{EventId, OwnedRoomId, OwnedUserId};

use super::{
    Engine, SyncError, SyncRequest,
    visibility::{self, Seen},
    window::{self, Window},
};
use crate::{
    engine::Timeline,
    filter,
    page_token::PageToken,
    read::{RoomState, StateView, StoredRow, Unsigned, render},
};

/// A room as one request sees it.
pub(crate) struct RoomPass<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The request.
    pub request: &'a SyncRequest,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its log.
    pub key: LogKey,
    /// Its head, read after the request arrived.
    pub head: Arc<RoomState>,
    /// When the answer is made (Unix milliseconds).
    pub now_ms: u64,
}

/// A timeline with what is needed to work out the state beside it.
pub(crate) struct Rendered {
    /// For the client.
    pub timeline: Timeline,
    /// The state before its first row.
    pub start: StateView,
    /// The state after its last row.
    pub end: StateView,
    /// Who sent its events.
    pub senders: Vec<OwnedUserId>,
    /// Whether all state changes since the last sync stand in it as events.
    pub complete: bool,
}

impl RoomPass<'_> {
    /// The timeline of the rows with `after < seq <= to`. `was_member`: the user has been in the room since those rows.
    pub(crate) async fn timeline(&self, after: Seq, to: Seq, was_member: bool) -> Result<Rendered, SyncError> {
        let events = &self.request.filter.room.timeline;
        let limit = filter::timeline_limit(&self.request.filter);
        let shown_at_all = filter::room_passes(events, &self.room_id);
        let rooms = &self.engine.rooms;
        let window = window::window(rooms, self.key, (after, to), events, limit).await?;
        let start = match window.rows.first() {
            Some(first) => window::state_before(rooms, self.key, first).await?,
            None => window::state_after(rooms, self.key, to).await?,
        };
        let seen =
            visibility::decide(rooms, self.key, &self.request.viewer.user_id, &start, &window.rows, was_member).await?;
        let end = window.rows.iter().fold(start.clone(), |state, row| state.after(row));
        let hidden = window.shown.iter().any(|at| !seen[*at].visible);
        let redactions = self.engine.redactions(self.key, &self.head, &window.rows).await?;
        let mut rendered = Vec::with_capacity(window.shown.len());
        let mut senders = Vec::new();
        for at in window.shown.iter().copied().filter(|at| shown_at_all && seen[*at].visible) {
            let row = &window.rows[at];
            if let Some(event) = self.render(row, &seen[at], redactions.get(&row.seq)).await? {
                rendered.push(event);
                senders.extend(row.event.as_ref().map(|event| event.sender.clone()));
            }
        }
        senders.sort();
        senders.dedup();
        let prev_batch = window.rows.first().map(|first| PageToken::before(first.seq).to_string());
        let timeline = Timeline { events: rendered, limited: window.limited, prev_batch };
        let complete = !window.limited && !window.filtered && !hidden && only_events(&window);
        Ok(Rendered { timeline, start, end, senders, complete })
    }

    /// One row's event for this client.
    pub(crate) async fn render(
        &self,
        row: &Arc<StoredRow>,
        seen: &Seen,
        redacted_by: Option<&Arc<StoredRow>>,
    ) -> Result<Option<Bytes>, SyncError> {
        let Some(event) = &row.event else { return Ok(None) };
        let replaced_id = row.meta.deltas.iter().find(|delta| delta.after.as_deref() == Some(&*event.event_id));
        let replaced = match replaced_id.and_then(|delta| delta.before.as_deref()) {
            Some(before) => self.engine.rooms.event(self.key.tenant, before).await?,
            None => None,
        };
        let device = self.request.viewer.sending_device();
        let unsigned = Unsigned {
            age_ms: Some(self.now_ms.saturating_sub(event.origin_server_ts)),
            membership: Some(&seen.membership),
            transaction_id: row.transaction_of(&device),
            replaced: replaced.as_deref().and_then(|row| row.event.as_ref()),
            redacted_because: None,
        };
        Ok(match redacted_by {
            Some(because) => self.engine.render_redacted(&self.head, row, because, None, &unsigned),
            None => render(row, None, &unsigned),
        })
    }

    /// State events by their ids, for a state section.
    pub(crate) async fn render_state(&self, event_ids: &[&EventId]) -> Result<Vec<Bytes>, SyncError> {
        let events = &self.request.filter.room.state;
        let device = self.request.viewer.sending_device();
        let mut out = Vec::with_capacity(event_ids.len());
        for event_id in event_ids {
            let Some(row) = self.engine.rooms.event(self.key.tenant, event_id).await? else { continue };
            let Some(event) = &row.event else { continue };
            let facets = filter::Facets { event_type: &event.event_type, sender: Some(&event.sender), has_url: None };
            if filter::passes(events, facets) && filter::room_passes(events, &self.room_id) {
                let age_ms = Some(self.now_ms.saturating_sub(event.origin_server_ts));
                let transaction_id = row.transaction_of(&device);
                let unsigned = Unsigned { age_ms, transaction_id, ..Unsigned::default() };
                out.extend(render(&row, None, &unsigned));
            }
        }
        Ok(out)
    }
}

/// Whether every change of state in the window is a state event that is shown.
fn only_events(window: &Window) -> bool {
    window.rows.iter().all(|row| row.meta.deltas.is_empty() || row.event.is_some())
}

/// Redacting rows by the number of the redacted one.
pub(crate) type Redactions = HashMap<Seq, Arc<StoredRow>>;
