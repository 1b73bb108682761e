//! The sections of rooms that the user has left, and of those that the user is invited to or knocks on.

use bytes::Bytes;
use polity_core::Seq;

use super::{SyncError, joined::Known, pass::RoomPass, sharing::Sharing, stretch::Stays, window};
use crate::{engine::LeftRoom, read::render_stripped};

/// State that somebody who isn't in a room may see of it.
const STRIPPED: &[&str] = &[
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
];

impl RoomPass<'_> {
    /// What happened after a row (or ever) up to the one that took the user out, and with whom the user shares a room less.
    pub(crate) async fn left(&self, after: Seq, leave: Seq) -> Result<(LeftRoom, Sharing), SyncError> {
        let rendered = self.timeline(after, leave, Stays::Until(leave)).await?;
        let known = if after == Seq::ZERO { Known::Nothing } else { Known::UpTo(after) };
        let had = self.had(known, &rendered).await?;
        let state = self.state(known, &had, &rendered).await?;
        let before = Seq::new(leave.get().saturating_sub(1));
        let before = window::state_after(&self.engine.rooms, self.key, before).await?;
        let sharing = self.unshared(&had, &before).await?;
        Ok((LeftRoom { timeline: rendered.timeline, state, account_data: Vec::new() }, sharing))
    }

    /// The one row that ended an invitation or a knock: nothing else of the room is the user's to see.
    pub(crate) async fn declined(&self, leave: Seq) -> Result<LeftRoom, SyncError> {
        let mut room = LeftRoom::default();
        if let Some(row) = self.engine.rooms.back(self.key, leave, 1).await?.pop() {
            let membership = self.own_change(&row).await?.flatten();
            room.timeline.events.extend(self.render(&row, membership.as_deref().unwrap_or("leave"), None).await?);
        }
        Ok(room)
    }

    /// The stripped state of an invitation or a knock, as it stands at the head, with who invited.
    pub(crate) async fn stripped(&self) -> Result<Vec<Bytes>, SyncError> {
        let rooms = &self.engine.rooms;
        let state = self.now();
        let mut rows = Vec::with_capacity(STRIPPED.len() + 2);
        for event_type in STRIPPED {
            rows.extend(rooms.state_event(self.key, &state, event_type, "").await?);
        }
        let user_id = self.request.viewer.user_id.as_str();
        if let Some(own) = rooms.state_event(self.key, &state, "m.room.member", user_id).await?
            && let Some(event) = &own.event
        {
            if event.sender != self.request.viewer.user_id {
                rows.extend(rooms.state_event(self.key, &state, "m.room.member", event.sender.as_str()).await?);
            }
            rows.push(own);
        }
        let rows = self.engine.as_redacted(self.key, &self.head, rows).await?;
        Ok(rows.iter().filter_map(|row| row.event.as_ref()).map(render_stripped).collect())
    }
}
