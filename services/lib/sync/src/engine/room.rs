//! What one room contributes to an answer: the token's entry, the user's membership row and the room's own rows decide (design,
//! section 4). Each branch stands for a rule whose violation has a counterexample in the model.

use polity_core::{
    Seq,
    sync_token::{EphemeralPosition, RoomEntry, Told},
};
use polity_store::rooms::Membership;

use super::{SyncError, joined::Known, pass::RoomPass};
use crate::{
    engine::{JoinedRoom, LeftRoom},
    read::StateView,
};
use bytes::Bytes;

/// A room's contribution.
#[derive(Debug)]
pub(crate) enum Section {
    /// Nothing is new.
    None,
    /// The user is in it.
    Joined(Box<JoinedRoom>),
    /// The user is invited, or knocks.
    Stripped(Told, Vec<Bytes>),
    /// The user has left it.
    Left(Box<LeftRoom>),
}

/// A room's contribution and what the next token says of it; `None` drops it.
pub(crate) struct Outcome {
    /// For the answer.
    pub section: Section,
    /// For the token.
    pub entry: Option<RoomEntry>,
}

impl Outcome {
    fn unchanged(entry: Option<RoomEntry>) -> Self {
        Self { section: Section::None, entry }
    }
}

impl RoomPass<'_> {
    /// Works the room out.
    pub(crate) async fn outcome(
        &self,
        entry: Option<RoomEntry>,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> Result<Outcome, SyncError> {
        match entry {
            None => self.enter(ephemeral).await,
            Some(entry) if entry.position.life != self.key.life => self.other_life(ephemeral).await,
            Some(entry) if entry.told == Told::Member => self.member(entry, row, ephemeral).await,
            Some(entry) => self.invited(entry, row, ephemeral).await,
        }
    }

    /// A room enters the token only by the user's state at the head, at the head's position.
    async fn enter(&self, ephemeral: EphemeralPosition) -> Result<Outcome, SyncError> {
        let at_head = |told| Some(RoomEntry { told, position: self.head_position() });
        match self.own_membership().await?.as_deref() {
            Some("join") => {
                let room = self.joined(Known::Nothing, ephemeral).await?.unwrap_or_default();
                Ok(Outcome { section: Section::Joined(Box::new(room)), entry: at_head(Told::Member) })
            }
            Some("invite") => Ok(Outcome {
                section: Section::Stripped(Told::Invited, self.stripped().await?),
                entry: at_head(Told::Invited),
            }),
            Some("knock") => Ok(Outcome {
                section: Section::Stripped(Told::Knocking, self.stripped().await?),
                entry: at_head(Told::Knocking),
            }),
            _ => Ok(Outcome::unchanged(None)),
        }
    }

    /// The life that the client knows is gone: newly joined if this one says so, else an empty leave.
    async fn other_life(&self, ephemeral: EphemeralPosition) -> Result<Outcome, SyncError> {
        let entered = self.enter(ephemeral).await?;
        if entered.entry.is_some() {
            return Ok(entered);
        }
        Ok(Outcome { section: Section::Left(Box::default()), entry: None })
    }

    async fn member(
        &self,
        entry: RoomEntry,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> Result<Outcome, SyncError> {
        let seq = entry.position.seq;
        let later = row.filter(|row| row.position.life == self.key.life && row.position.seq > seq);
        let rejoined = later.is_some_and(|row| row.membership == "join" && row.since > seq);
        if rejoined && self.own_membership().await?.as_deref() == Some("join") {
            return self.enter(ephemeral).await;
        }
        // The room's own rows decide: the first one whose effect takes the user out ends it.
        if self.head.seq > seq
            && let Some(leave) = self.leaves_after(seq).await?
        {
            let room = self.left(seq, leave).await?;
            return Ok(Outcome { section: Section::Left(Box::new(room)), entry: None });
        }
        let position = self.head_position();
        let entry = Some(RoomEntry { told: Told::Member, position });
        let room = self.joined(Known::UpTo(seq), ephemeral).await?;
        Ok(Outcome { section: room.map_or(Section::None, |room| Section::Joined(Box::new(room))), entry })
    }

    async fn invited(
        &self,
        entry: RoomEntry,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> Result<Outcome, SyncError> {
        let seq = entry.position.seq;
        let later = row.filter(|row| row.position.life == self.key.life && row.position.seq > seq);
        let Some(row) = later else { return Ok(Outcome::unchanged(Some(entry))) };
        if matches!(row.membership.as_str(), "join" | "invite" | "knock") {
            let entered = self.enter(ephemeral).await?;
            if entered.entry.is_some() {
                return Ok(entered);
            }
        }
        // Never dropped without its leave: the row names it, or the room's rows do.
        let leave = if matches!(row.membership.as_str(), "leave" | "ban") {
            Some(row.position.seq)
        } else {
            self.leaves_after(seq).await?
        };
        match leave {
            Some(leave) => Ok(Outcome { section: Section::Left(Box::new(self.declined(leave).await?)), entry: None }),
            None => Ok(Outcome::unchanged(Some(entry))),
        }
    }

    /// The first row after `seq`, up to the head, whose effect on the state takes the user out.
    async fn leaves_after(&self, seq: Seq) -> Result<Option<Seq>, SyncError> {
        let user_id = &self.request.viewer.user_id;
        let now = StateView::at_roots(self.head.room.roots);
        let had = super::window::state_after(&self.engine.rooms, self.key, seq).await?;
        let generation = self.head.room.generation;
        // Most often the user's own entry didn't change at all, and no row need be read for that.
        let id = |state: StateView| async move {
            self.engine.rooms.state_id(self.key, generation, &state, "m.room.member", user_id.as_str()).await
        };
        if id(had).await? == id(now).await? {
            return Ok(None);
        }
        let mut from = seq;
        while from < self.head.seq {
            let rows = self.engine.rooms.after(self.key, from, 500).await?;
            let Some(last) = rows.last() else { break };
            from = last.seq;
            let leave = rows.iter().filter(|row| row.seq <= self.head.seq).find(|row| {
                row.meta.membership.as_ref().is_some_and(|change| {
                    change.user_id == *user_id && matches!(change.membership.as_str(), "leave" | "ban")
                })
            });
            if let Some(row) = leave {
                return Ok(Some(row.seq));
            }
        }
        Ok(None)
    }

    /// What the user is at the head.
    pub(crate) async fn own_membership(&self) -> Result<Option<String>, SyncError> {
        let state = StateView::at_roots(self.head.room.roots);
        let user_id = self.request.viewer.user_id.as_str();
        let row = self.engine.rooms.state_event(self.key, &state, "m.room.member", user_id).await?;
        Ok(row.and_then(|row| row.event.as_ref().and_then(|event| event.content_text("membership"))))
    }

    fn head_position(&self) -> polity_core::Position {
        polity_core::Position::new(self.key.life, self.head.seq)
    }
}
