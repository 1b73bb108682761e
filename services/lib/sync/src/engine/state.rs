//! The state section: from what the client has to where the timeline begins (or, with MSC4222, ends); with what changes within the timeline
//! and isn't shown there.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use polity_core::{
    Seq,
    mutation::{Mutation, planted},
};
use polity_room_engine::record::StateDelta;
use ruma_common::{EventId, OwnedEventId, OwnedUserId};

use super::{
    SyncError,
    joined::Known,
    pass::{Rendered, RoomPass},
    window,
};
use crate::{
    engine::StateSection,
    filter,
    read::{Change, Part, StateView},
};

/// The state that a client has, and how the one after its timeline differs.
pub(crate) enum Had {
    /// None.
    Nothing,
    /// That after the timeline.
    Same,
    /// Another one.
    State {
        /// It.
        view: StateView,
        /// What differs after the timeline.
        changes: Vec<Change>,
    },
}

impl Had {
    /// Whether a membership or what the room is named by changed.
    pub(crate) fn renames(&self) -> bool {
        let Self::State { changes, .. } = self else { return false };
        let naming = ["m.room.member", "m.room.name", "m.room.canonical_alias"];
        changes.iter().any(|change| naming.contains(&change.event_type.as_str())) && !planted(Mutation::SummaryStale)
    }
}

impl RoomPass<'_> {
    /// Compares the state that the client has with that after a timeline.
    pub(crate) async fn had(&self, known: Known, rendered: &Rendered) -> Result<Had, SyncError> {
        let Known::UpTo(seq) = known else { return Ok(Had::Nothing) };
        let unchanged = !rendered.timeline.limited && rendered.rows.iter().all(|row| row.meta.deltas.is_empty());
        if unchanged {
            return Ok(Had::Same);
        }
        let view = window::state_after(&self.engine.rooms, self.key, seq).await?;
        let changes = self.engine.rooms.diff(self.key, self.head.room.generation, &view, &rendered.end).await?;
        Ok(Had::State { view, changes })
    }

    /// The state section beside a timeline.
    pub(crate) async fn state(&self, known: Known, had: &Had, rendered: &Rendered) -> Result<StateSection, SyncError> {
        let after = self.request.state_after;
        let lazy = filter::is_lazy(&self.request.filter.room.state);
        let unseen = if after { Vec::new() } else { changed_unseen(rendered) };
        let base = if after { &rendered.end } else { &rendered.start };
        // One event for each part of the state: what was changed unseen is told instead of what was before, also where a lazily loaded member
        // has left since.
        let replacing = unseen.iter().filter(|_| !planted(Mutation::StateTwice));
        let target = replacing.fold(Cow::Borrowed(base), |state, delta| Cow::Owned(state.into_owned().and(delta)));
        let mut wanted: BTreeSet<OwnedEventId> = BTreeSet::new();
        match had {
            _ if self.request.full_state => self.everything(&target, lazy, &mut wanted).await?,
            Had::Nothing => self.everything(&target, lazy, &mut wanted).await?,
            Had::Same => {}
            // Also of members that are loaded lazily: who isn't told of a kick, or of what became of a name in a gap, has the old one for ever.
            Had::State { changes, .. } if after => {
                wanted.extend(changes.iter().filter_map(|change| change.now.clone()))
            }
            // A timeline without a gap begins where the client is.
            Had::State { .. } if !rendered.timeline.limited => {
                wanted.extend(unseen.iter().filter_map(|delta| delta.after.clone()));
            }
            Had::State { view, .. } => {
                let changes = self.engine.rooms.diff(self.key, self.head.room.generation, view, &target).await?;
                wanted.extend(changes.into_iter().filter_map(|change| change.now));
            }
        }
        if planted(Mutation::StateTwice) {
            wanted.extend(unseen.iter().filter_map(|delta| delta.after.clone()));
        }
        if lazy && planted(Mutation::MembersInGap) && matches!(had, Had::State { .. }) {
            let members =
                self.engine.rooms.entries(self.key, self.head.room.generation, &target, Part::Members).await?;
            wanted.retain(|id| !members.iter().any(|(_, member)| member == id));
        }
        if lazy {
            let knows_members = !self.request.full_state && !matches!(had, Had::Nothing);
            let from = (knows_members && self.own_token).then_some(known.seq());
            // Those that name the room are told anew: whom a client doesn't know it can't show.
            let heroes = if had.renames() { self.heroes().await? } else { Vec::new() };
            self.members_of_timeline(&target, (rendered, &heroes), from, &mut wanted).await?;
        }
        let ids: Vec<&EventId> = wanted.iter().map(|id| &**id).collect();
        let events = self.render_state(&ids).await?;
        Ok(if after { StateSection::After(events) } else { StateSection::Before(events) })
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
            let heroes = self.heroes().await?;
            for user_id in heroes.iter().chain([&self.request.viewer.user_id]) {
                wanted.extend(rooms.state_id(self.key, generation, target, "m.room.member", user_id.as_str()).await?);
            }
        } else {
            let members = rooms.entries(self.key, generation, target, Part::Members).await?;
            wanted.extend(members.into_iter().map(|(_, id)| id));
        }
        Ok(())
    }

    /// Lazily loaded: the members that the timeline's events and the room's name need, those sent before `from` only if they are asked for
    /// again.
    async fn members_of_timeline(
        &self,
        target: &StateView,
        (rendered, heroes): (&Rendered, &[OwnedUserId]),
        from: Option<Seq>,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), SyncError> {
        let (rooms, generation) = (&self.engine.rooms, self.head.room.generation);
        let mut users: Vec<_> = rendered.shown_events().map(|event| &event.sender).chain(heroes).collect();
        users.sort();
        users.dedup();
        let mut members = Vec::with_capacity(users.len());
        for user_id in users {
            members.extend(rooms.state_id(self.key, generation, target, "m.room.member", user_id.as_str()).await?);
        }
        let (place, events) = ((self.request.viewer.inbox.log, self.key.log), &self.request.filter.room.state);
        let sent = &self.engine.sent_members;
        if filter::narrows_members(events) {
            // Who comes from here has nothing for certain.
            sent.unsent(place, (None, self.head.seq), std::iter::empty());
            wanted.extend(members);
            return Ok(());
        }
        let unsent = sent.unsent(place, (from, self.head.seq), members.iter().cloned());
        wanted.extend(if filter::repeats_members(events) { members } else { unsent });
        Ok(())
    }
}

/// What changes within the timeline's rows without an event that the client gets there: by a resolution, or kept back by the filter, or
/// hidden. Of each part of the state the last change, if it is one.
fn changed_unseen(rendered: &Rendered) -> Vec<&StateDelta> {
    let mut last: BTreeMap<(&str, &str), &StateDelta> = BTreeMap::new();
    for delta in rendered.rows.iter().flat_map(|row| &row.meta.deltas) {
        last.insert((&delta.event_type, &delta.state_key), delta);
    }
    let seen = |id: &EventId| {
        rendered.shown.iter().any(|at| rendered.rows[*at].event.as_ref().is_some_and(|event| event.event_id == *id))
    };
    last.into_values().filter(|delta| delta.after.as_deref().is_some_and(|id| !seen(id))).collect()
}
