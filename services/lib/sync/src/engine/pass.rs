//! One look at one room for one client: what its sections have in common.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use polity_core::{
    LogKey, Seq,
    mutation::{Mutation, planted},
};
use ruma_common::{EventId, OwnedRoomId};

use super::{
    Engine, SyncError, SyncRequest,
    budget::Share,
    progress::Knows,
    settings::Settings,
    stretch::Stays,
    visibility,
    window::{self, Window},
};
use crate::{
    engine::Timeline,
    filter,
    page_token::PageToken,
    read::{Event, RoomState, StateView, StoredRow, Unsigned, render},
};

/// State events that are held at once while a section is written.
const BATCH: usize = 250;

/// A room as one request sees it.
pub(crate) struct RoomPass<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The request.
    pub request: &'a SyncRequest,
    /// What its user has set.
    pub settings: Arc<Settings>,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its log.
    pub key: LogKey,
    /// Its head, read after the request arrived.
    pub head: Arc<RoomState>,
    /// When the answer is made (Unix milliseconds).
    pub now_ms: u64,
    /// What the client's token said.
    pub knows: Knows,
    /// Whether the token was made by this process: then it remembers what the client was sent with it.
    pub own_token: bool,
    /// What the answer takes of the memory for answers.
    pub share: Arc<Share>,
}

/// A timeline with what is needed to work out the state beside it.
pub(crate) struct Rendered {
    /// For the client.
    pub timeline: Timeline,
    /// The rows looked at, oldest first, without a hole.
    pub rows: Vec<Arc<StoredRow>>,
    /// Those whose events the client gets, by their place.
    pub shown: Vec<usize>,
    /// The state before the first row.
    pub start: StateView,
    /// The state after the last row.
    pub end: StateView,
}

impl Rendered {
    /// The events that the client gets.
    pub(crate) fn shown_events(&self) -> impl Iterator<Item = &Event> {
        self.shown.iter().filter_map(|at| self.rows[*at].event.as_ref())
    }
}

impl RoomPass<'_> {
    /// The timeline of the rows with `after < seq <= to`, of a user who was in the room at some of them.
    pub(crate) async fn timeline(&self, after: Seq, to: Seq, stays: Stays) -> Result<Rendered, SyncError> {
        let events = &self.request.filter.room.timeline;
        let limit = filter::timeline_limit(&self.request.filter);
        let rooms = &self.engine.rooms;
        // What isn't told takes no place.
        let shows = |row: &StoredRow| filter::row_passes(events, row) && !self.settings.hides(row);
        let Window { rows, shown, limited } = window::window(rooms, self.key, (after, to), shows, limit).await?;
        let start = match rows.first() {
            Some(first) => window::state_before(rooms, self.key, first).await?,
            None => window::state_after(rooms, self.key, to).await?,
        };
        // Whoever was told as a member and stayed sees everything.
        let seen = if stays == Stays::Throughout {
            None
        } else {
            Some(visibility::decide(rooms, self.key, &self.request.viewer.user_id, &start, &rows, true).await?)
        };
        let end = rows.iter().fold(start.clone(), |state, row| state.after(row));
        let redactions = self.redactions_of(&rows, to).await?;
        let (mut rendered, mut told) = (Vec::with_capacity(shown.len()), Vec::with_capacity(shown.len()));
        for at in shown.into_iter().filter(|_| filter::room_passes(events, &self.room_id)) {
            let (row, seen) = (&rows[at], seen.as_ref().map(|seen| &seen[at]));
            if seen.is_none_or(|seen| seen.visible) {
                let membership = seen.map_or("join", |seen| &seen.membership);
                if let Some(event) = self.render(row, membership, redactions.get(&row.seq)).await? {
                    self.share.grow(event.len())?;
                    rendered.push(event);
                    told.push(at);
                }
            }
        }
        // Who was here before may hold an older part of the timeline: what comes now doesn't follow it.
        let limited = limited || (after == Seq::ZERO && self.knows != Knows::Nothing);
        let prev_batch = rows.first().map(|first| PageToken::before(first.seq).to_string());
        let timeline = Timeline { events: rendered, limited, prev_batch };
        let rendered = Rendered { timeline, rows, shown: told, start, end };
        // With the state after the timeline beside it a client takes no state from the timeline.
        if self.request.state_after || planted(Mutation::UndoneIsShown) {
            return Ok(rendered);
        }
        Ok(rendered.without_what_is_undone(to, |at| seen.as_ref().is_none_or(|seen| seen[at].visible)))
    }

    /// The redacted ones of some rows without a hole up to `to`.
    async fn redactions_of(&self, rows: &[Arc<StoredRow>], to: Seq) -> Result<Redactions, SyncError> {
        if to < self.head.seq {
            return self.engine.redactions(self.key, &self.head, rows).await;
        }
        // Whatever redacts one of the room's last rows stands among them. The first one counts.
        let mut out = Redactions::new();
        for row in rows {
            if let Some((_, Some(target))) = &row.meta.redacts {
                out.entry(*target).or_insert_with(|| Arc::clone(row));
            }
        }
        Ok(out)
    }

    /// One row's event for this client, which was a `membership` at it.
    pub(crate) async fn render(
        &self,
        row: &Arc<StoredRow>,
        membership: &str,
        redacted_by: Option<&Arc<StoredRow>>,
    ) -> Result<Option<Bytes>, SyncError> {
        let Some(event) = &row.event else { return Ok(None) };
        let replaced = self.engine.replaced(self.key, &self.head, row).await?;
        let unsigned = Unsigned {
            age_ms: Some(self.now_ms.saturating_sub(event.origin_server_ts)),
            membership: Some(membership),
            transaction_id: self.request.viewer.transaction_of(row),
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
        if !filter::room_passes(events, &self.room_id) {
            return Ok(Vec::new());
        }
        let mut out = Vec::with_capacity(event_ids.len());
        for some in event_ids.chunks(BATCH) {
            let mut rows = self.engine.rooms.events_of_state(self.key, some).await?;
            rows.retain(|row| filter::row_passes(events, row));
            let (viewer, at) = (&self.request.viewer, (&*self.head, None));
            let rendered = self.engine.render_state(viewer, self.key, at, &rows, &self.share).await?;
            self.share.grow(rendered.iter().map(Bytes::len).sum())?;
            out.extend(rendered);
        }
        Ok(out)
    }
}

/// Redacting rows by the number of the redacted one.
pub(crate) type Redactions = HashMap<Seq, Arc<StoredRow>>;
