//! The section of a room that the user is in.

use std::collections::BTreeSet;

use polity_core::{Seq, sync_token::EphemeralPosition};
use ruma_common::OwnedEventId;

use super::{
    SyncError,
    pass::{Rendered, RoomPass},
    window,
};
use crate::{
    engine::{JoinedRoom, StateSection, Summary},
    ephemeral, filter,
    read::{Part, StateView},
};

/// How the client knows the room so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not at all: everything is new.
    Nothing,
    /// Up to a row.
    UpTo(Seq),
}

impl RoomPass<'_> {
    /// What is new in a room that the user is in, up to the head; `None` if nothing is.
    pub(crate) async fn joined(
        &self,
        known: Known,
        ephemeral: EphemeralPosition,
    ) -> Result<Option<JoinedRoom>, SyncError> {
        let after = match known {
            Known::Nothing => Seq::ZERO,
            Known::UpTo(seq) => seq,
        };
        let new_rows = self.head.seq > after;
        let full = known == Known::Nothing || self.request.full_state;
        let mut room = JoinedRoom::default();
        if new_rows || full {
            let rendered = self.timeline(after, self.head.seq, true).await?;
            room.state = self.state(known, &rendered, full).await?;
            let changed = full || self.summary_changed(after).await?;
            room.summary = changed.then(|| self.summary());
            room.timeline = rendered.timeline;
        } else if self.request.state_after {
            room.state = StateSection::After(Vec::new());
        }
        room.ephemeral = self.ephemeral(known, ephemeral).await?;
        if !new_rows && !full && room.ephemeral.is_empty() {
            return Ok(None);
        }
        room.unread = self.unread().await?;
        Ok(Some(room))
    }

    /// The state section: the difference between what the client has and the timeline's start (or end).
    pub(crate) async fn state(&self, known: Known, rendered: &Rendered, full: bool) -> Result<StateSection, SyncError> {
        let target = if self.request.state_after { &rendered.end } else { &rendered.start };
        let lazy = filter::is_lazy(&self.request.filter.room.state);
        let mut wanted: BTreeSet<OwnedEventId> = BTreeSet::new();
        match known {
            Known::UpTo(seq) if !full => {
                // A timeline with all changes as events leaves nothing to say before it.
                if self.request.state_after || !rendered.complete {
                    let had = window::state_after(&self.engine.rooms, self.key, seq).await?;
                    self.changes(&had, target, lazy, &mut wanted).await?;
                }
            }
            _ => self.everything(target, lazy, &mut wanted).await?,
        }
        if lazy {
            self.members_of_timeline(target, rendered, &mut wanted).await?;
        }
        let ids: Vec<_> = wanted.iter().map(|id| &**id).collect();
        let events = self.render_state(&ids).await?;
        Ok(if self.request.state_after { StateSection::After(events) } else { StateSection::Before(events) })
    }

    async fn changes(
        &self,
        had: &StateView,
        target: &StateView,
        lazy: bool,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), SyncError> {
        for change in self.engine.rooms.diff(self.key, self.head.room.generation, had, target).await? {
            let own = change.state_key == self.request.viewer.user_id.as_str();
            if !lazy || change.event_type != "m.room.member" || own {
                wanted.extend(change.now);
            }
        }
        Ok(())
    }

    async fn everything(
        &self,
        target: &StateView,
        lazy: bool,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), SyncError> {
        let (rooms, generation) = (&self.engine.rooms, self.head.room.generation);
        wanted.extend(rooms.entries(self.key, generation, target, Part::Entries).await?.into_iter().map(|(_, id)| id));
        if lazy {
            let heroes = self.head.room.summary.heroes.iter();
            for user_id in heroes.chain([&self.request.viewer.user_id]) {
                wanted.extend(rooms.state_id(self.key, generation, target, "m.room.member", user_id.as_str()).await?);
            }
        } else {
            wanted.extend(
                rooms.entries(self.key, generation, target, Part::Members).await?.into_iter().map(|(_, id)| id),
            );
        }
        Ok(())
    }

    /// Lazily loaded: the members that the timeline's events need.
    async fn members_of_timeline(
        &self,
        target: &StateView,
        rendered: &Rendered,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), SyncError> {
        for sender in &rendered.senders {
            let generation = self.head.room.generation;
            let member =
                self.engine.rooms.state_id(self.key, generation, target, "m.room.member", sender.as_str()).await?;
            wanted.extend(member);
        }
        Ok(())
    }

    /// What the room is named by.
    pub(crate) fn summary(&self) -> Summary {
        let summary = &self.head.room.summary;
        let unnamed = summary.name.is_none() && summary.canonical_alias.is_none();
        let others = summary.heroes.iter().filter(|user| **user != self.request.viewer.user_id).take(5).cloned();
        let heroes = if unnamed { others.collect() } else { Vec::new() };
        Summary { joined: summary.joined, invited: summary.invited, heroes }
    }

    /// Whether a membership or the name changed since a row.
    async fn summary_changed(&self, after: Seq) -> Result<bool, SyncError> {
        let had = window::state_after(&self.engine.rooms, self.key, after).await?;
        if had.roots == self.head.room.roots && had.changes.is_empty() {
            return Ok(false);
        }
        let now = StateView::at_roots(self.head.room.roots);
        let changes = self.engine.rooms.diff(self.key, self.head.room.generation, &had, &now).await?;
        Ok(changes.iter().any(|change| {
            matches!(change.event_type.as_str(), "m.room.member" | "m.room.name" | "m.room.canonical_alias")
        }))
    }

    async fn ephemeral(&self, known: Known, position: EphemeralPosition) -> Result<Vec<bytes::Bytes>, SyncError> {
        let events = &self.request.filter.room.ephemeral;
        if !filter::room_passes(events, &self.room_id) {
            return Ok(Vec::new());
        }
        let position = if known == Known::Nothing { EphemeralPosition::default() } else { position };
        let changes = self.engine.ephemeral.since((self.key.tenant, self.key.log), position);
        let mut out = Vec::new();
        if let Some(users) = changes.typing.filter(|users| known != Known::Nothing || !users.is_empty())
            && filter::type_passes(events.types.as_deref(), &events.not_types, "m.typing")
        {
            out.push(ephemeral::typing_event(&users));
        }
        if filter::type_passes(events.types.as_deref(), &events.not_types, "m.receipt") {
            let viewer = &self.request.viewer.user_id;
            let receipts = if changes.receipts_incomplete {
                self.engine.stored_receipts(self.key, viewer).await?
            } else {
                changes.receipts
            };
            out.extend(ephemeral::receipts_event(&receipts, viewer));
        }
        Ok(out)
    }
}
