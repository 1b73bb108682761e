//! The section of a room that the user is in.

use bytes::Bytes;
use polity_core::{Seq, sync_token::EphemeralPosition};

use super::{
    SyncError,
    pass::{Rendered, RoomPass},
    sharing::Sharing,
    stretch::Stays,
    unread::counts,
};
use crate::{
    engine::{JoinedRoom, StateSection, Summary},
    ephemeral, filter,
};

/// How the client knows the room so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not at all: everything is new.
    Nothing,
    /// Up to a row, but of an earlier stretch of the user's: the timeline goes on there, all state is told.
    Before(Seq),
    /// Up to a row.
    UpTo(Seq),
}

impl Known {
    /// The last row that the client knows.
    pub(crate) fn seq(self) -> Seq {
        match self {
            Self::Nothing => Seq::ZERO,
            Self::Before(seq) | Self::UpTo(seq) => seq,
        }
    }

    /// Whether the client knows this stretch of the user's in the room.
    fn is_this_stretch(self) -> bool {
        matches!(self, Self::UpTo(_))
    }
}

impl RoomPass<'_> {
    /// What is new in a room that the user is in, up to the head (`None` if nothing is), and whose devices the client begins or
    /// ends to follow by it.
    pub(crate) async fn joined(
        &self,
        known: Known,
        stays: Stays,
        position: EphemeralPosition,
    ) -> Result<(Option<JoinedRoom>, Sharing), SyncError> {
        let after = known.seq();
        let full = !known.is_this_stretch() || self.request.full_state;
        let mut room = JoinedRoom { state: self.no_state(), ..JoinedRoom::default() };
        let (mut sharing, mut told) = (Sharing::default(), full);
        if self.head.seq > after || full {
            let rendered = self.timeline(after, self.head.seq, stays).await?;
            let had = self.had(known, &rendered).await?;
            room.state = self.state(known, &had, &rendered).await?;
            room.summary = if full || had.renames() { Some(self.summary().await?) } else { None };
            sharing = self.sharing(known, &had).await?;
            told |= room.summary.is_some() || !room.state.is_empty() || self.is_worth_telling(&rendered);
            room.timeline = rendered.timeline;
        }
        room.ephemeral = self.ephemeral(known, position).await?;
        if !told && room.ephemeral.is_empty() {
            return Ok((None, sharing));
        }
        self.count_unread(&mut room).await?;
        Ok((Some(room), sharing))
    }

    /// Whether a timeline has an event, or is about some that change what is unread.
    fn is_worth_telling(&self, rendered: &Rendered) -> bool {
        let touches_counts = |row| counts(row, self.viewer_for_counts()) || row.meta.redacts.is_some();
        rendered.timeline.limited
            || !rendered.timeline.events.is_empty()
            || rendered.rows.iter().any(|row| touches_counts(&**row))
    }

    /// The section of a room whose state didn't change.
    fn no_state(&self) -> StateSection {
        if self.request.state_after { StateSection::After(Vec::new()) } else { StateSection::default() }
    }

    /// What the room is named by.
    async fn summary(&self) -> Result<Summary, SyncError> {
        let summary = &self.head.room.summary;
        Ok(Summary { joined: summary.joined, invited: summary.invited, heroes: self.heroes().await? })
    }

    async fn ephemeral(&self, known: Known, position: EphemeralPosition) -> Result<Vec<Bytes>, SyncError> {
        let (events, room) = (&self.request.filter.room.ephemeral, (self.key.tenant, self.key.log));
        let ephemeral = &self.engine.ephemeral;
        // Of another process's time nothing is known here: a room with news has its receipts told anew.
        if known.is_this_stretch() && ephemeral.is_own(position) && !ephemeral.moved(room, position)
            || !filter::room_passes(events, &self.room_id)
        {
            return Ok(Vec::new());
        }
        let position = if known.is_this_stretch() { position } else { EphemeralPosition::default() };
        let changes = self.engine.ephemeral.since(room, position);
        let mut out = Vec::new();
        if let Some(users) = changes.typing.filter(|users| known.is_this_stretch() || !users.is_empty())
            && filter::type_passes(events.types.as_deref(), &events.not_types, "m.typing")
        {
            let shown: Vec<_> = users.into_iter().filter(|user| !self.settings.ignores(user)).collect();
            out.push(ephemeral::typing_event(&shown));
        }
        if filter::type_passes(events.types.as_deref(), &events.not_types, "m.receipt") {
            let viewer = &self.request.viewer.user_id;
            let mut receipts = if changes.receipts_incomplete {
                self.engine.stored_receipts(self.key, viewer).await?
            } else {
                changes.receipts
            };
            receipts.retain(|receipt| !self.settings.ignores(&receipt.user_id));
            out.extend(ephemeral::receipts_event(&receipts, viewer));
        }
        Ok(out)
    }
}
