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
use ruma_common::{EventId, OwnedEventId};

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
            Had::State { changes, .. } if after => self.add(changes, lazy, &mut wanted),
            // A timeline without a gap begins where the client is.
            Had::State { .. } if !rendered.timeline.limited => {
                let told = unseen.iter().filter(|delta| self.is_told(&delta.event_type, &delta.state_key, lazy));
                wanted.extend(told.filter_map(|delta| delta.after.clone()));
            }
            Had::State { view, .. } => {
                let changes = self.engine.rooms.diff(self.key, self.head.room.generation, view, &target).await?;
                self.add(&changes, lazy, &mut wanted);
            }
        }
        if planted(Mutation::StateTwice) {
            wanted.extend(unseen.iter().filter_map(|delta| delta.after.clone()));
        }
        if lazy {
            let knows_members = !self.request.full_state && !matches!(had, Had::Nothing);
            let from = known.seq();
            self.members_of_timeline(&target, rendered, knows_members.then_some(from), &mut wanted).await?;
        }
        let ids: Vec<&EventId> = wanted.iter().map(|id| &**id).collect();
        let events = self.render_state(&ids).await?;
        Ok(if after { StateSection::After(events) } else { StateSection::Before(events) })
    }

    /// Whether a change of membership is told although members are loaded lazily.
    fn is_told(&self, event_type: &str, state_key: &str, lazy: bool) -> bool {
        !lazy || event_type != "m.room.member" || state_key == self.request.viewer.user_id.as_str()
    }

    fn add(&self, changes: &[Change], lazy: bool, wanted: &mut BTreeSet<OwnedEventId>) {
        let told = changes.iter().filter(|change| self.is_told(&change.event_type, &change.state_key, lazy));
        wanted.extend(told.filter_map(|change| change.now.clone()));
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

    /// Lazily loaded: the members that the timeline's events need, those sent before `from` only if they are asked for again.
    async fn members_of_timeline(
        &self,
        target: &StateView,
        rendered: &Rendered,
        from: Option<Seq>,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), SyncError> {
        let (rooms, generation) = (&self.engine.rooms, self.head.room.generation);
        let mut senders: Vec<_> = rendered.shown_events().map(|event| &event.sender).collect();
        senders.sort();
        senders.dedup();
        let mut members = Vec::with_capacity(senders.len());
        for sender in senders {
            members.extend(rooms.state_id(self.key, generation, target, "m.room.member", sender.as_str()).await?);
        }
        if filter::repeats_members(&self.request.filter.room.state) {
            wanted.extend(members);
        } else {
            let place = (self.request.viewer.inbox.log, self.key.log);
            let unsent = self.engine.sent_members.unsent(place, (from, self.head.seq), members.into_iter());
            wanted.extend(unsent);
        }
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
