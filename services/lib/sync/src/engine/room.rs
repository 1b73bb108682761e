//! What one room contributes to an answer: the token's entry, the user's membership row and the room's own rows decide (design,
//! section 4). Each branch stands for a rule whose violation has a counterexample in the model.

use bytes::Bytes;
use polity_core::{
    Seq,
    mutation::{Mutation, planted},
    sync_token::{EphemeralPosition, RoomEntry, Told},
};
use polity_store::rooms::{self, Membership};

use super::{
    SyncError,
    joined::Known,
    pass::RoomPass,
    progress::Knows,
    sharing::Sharing,
    stretch::{Stays, is_in},
};
use crate::{
    engine::{JoinedRoom, LeftRoom},
    read::ReadError,
};

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
    /// Whose devices the client begins or ends to follow.
    pub sharing: Sharing,
}

impl Outcome {
    fn new(section: Section, entry: Option<RoomEntry>) -> Self {
        Self { section, entry, sharing: Sharing::default() }
    }

    fn unchanged(entry: Option<RoomEntry>) -> Self {
        Self::new(Section::None, entry)
    }

    fn left(room: LeftRoom) -> Self {
        Self::new(Section::Left(Box::new(room)), None)
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
            None => match self.archived(row).await? {
                Some(outcome) => Ok(outcome),
                None => self.enter(None, ephemeral).await,
            },
            Some(entry) if entry.position.life != self.key.life => self.other_life(entry, ephemeral).await,
            Some(entry) if entry.told == Told::Member => self.member(entry, row, ephemeral).await,
            Some(entry) => self.invited(entry, row, ephemeral).await,
        }
    }

    /// A room enters the token only by the user's state at the head, at the head's position. `entry` stays if it doesn't enter.
    async fn enter(&self, entry: Option<RoomEntry>, ephemeral: EphemeralPosition) -> Result<Outcome, SyncError> {
        let at_head = |told| Some(RoomEntry { told, position: self.head_position() });
        let Some((membership, sender)) = self.own_membership().await? else { return Ok(Outcome::unchanged(entry)) };
        match membership.as_str() {
            "join" => {
                let known = match entry {
                    Some(entry) if entry.told == Told::Member => Known::Before(entry.position.seq),
                    _ => Known::Nothing,
                };
                let (room, sharing) = self.joined(known, Stays::AtTheEnd, ephemeral).await?;
                let section = Section::Joined(Box::new(room.unwrap_or_default()));
                Ok(Outcome { sharing, ..Outcome::new(section, at_head(Told::Member)) })
            }
            "invite" if planted(Mutation::InvitationUntold) => Ok(Outcome::unchanged(entry)),
            // Not told, and told as soon as the user no longer ignores who sent it.
            "invite" if self.settings.ignores(&sender) => Ok(Outcome::unchanged(entry)),
            "invite" => {
                Ok(Outcome::new(Section::Stripped(Told::Invited, self.stripped().await?), at_head(Told::Invited)))
            }
            "knock" => {
                Ok(Outcome::new(Section::Stripped(Told::Knocking, self.stripped().await?), at_head(Told::Knocking)))
            }
            _ => Ok(Outcome::unchanged(entry)),
        }
    }

    /// The life that the client knows is gone: newly joined if this one says so, else an empty leave. An invitation of the new life
    /// replaces only an invitation: who was told as a member learns first that that is over.
    async fn other_life(&self, entry: RoomEntry, ephemeral: EphemeralPosition) -> Result<Outcome, SyncError> {
        let entered = self.enter(None, ephemeral).await?;
        let replaces = match entered.entry.map(|entry| entry.told) {
            Some(Told::Member) => true,
            Some(_) => entry.told != Told::Member,
            None => false,
        };
        Ok(if replaces { entered } else { Outcome::left(LeftRoom::default()) })
    }

    async fn member(
        &self,
        entry: RoomEntry,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> Result<Outcome, SyncError> {
        let seq = entry.position.seq;
        let later = row.filter(|row| row.position.life == self.key.life && row.position.seq > seq);
        let rejoined = later.is_some_and(|row| row.membership == "join" && row.since > seq)
            && !planted(Mutation::StaysByMembership);
        if rejoined && self.own_membership().await?.is_some_and(|(membership, _)| membership == "join") {
            return self.enter(Some(entry), ephemeral).await;
        }
        // The room's own rows decide: the first one whose effect takes the user out ends it.
        let stays = self.stays(seq).await?;
        if let Stays::Until(leave) = stays {
            if planted(Mutation::LeaveIsOver) {
                return Ok(Outcome::unchanged(None));
            }
            let (room, sharing) = self.left(seq, leave).await?;
            return Ok(Outcome { sharing, ..Outcome::left(room) });
        }
        // Never back: what was told isn't told again.
        let position = self.head_position().max(entry.position);
        let entry = Some(RoomEntry { told: Told::Member, position });
        let (room, sharing) = self.joined(Known::UpTo(seq), stays, ephemeral).await?;
        let section = room.map_or(Section::None, |room| Section::Joined(Box::new(room)));
        Ok(Outcome { sharing, ..Outcome::new(section, entry) })
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
        if matches!(row.membership.as_str(), "leave" | "ban") {
            return Ok(Outcome::left(self.declined(row.position.seq).await?));
        }
        let entered = self.enter(Some(entry), ephemeral).await?;
        if entered.entry != Some(entry) || self.own_membership().await?.is_some_and(|(now, _)| is_in(&now)) {
            return Ok(entered);
        }
        // Never dropped without its leave: the row is behind, so the room's rows name it.
        match self.ended(seq).await? {
            Some(leave) => Ok(Outcome::left(self.declined(leave).await?)),
            None => Ok(Outcome::unchanged(Some(entry))),
        }
    }

    /// A room that the client doesn't name and the user has left: told if the client may not know that, or asks for such rooms.
    async fn archived(&self, row: Option<&Membership>) -> Result<Option<Outcome>, SyncError> {
        let Some(row) = row.filter(|row| matches!(row.membership.as_str(), "leave" | "ban")) else { return Ok(None) };
        if row.position.life != self.key.life {
            return Ok(None);
        }
        if self.knows.forgot_its_rooms() {
            return Ok(Some(Outcome::left(self.declined(row.position.seq).await?)));
        }
        if self.knows != Knows::Nothing || !self.request.filter.room.include_leave {
            return Ok(None);
        }
        let viewer = &self.request.viewer;
        let forgotten = rooms::forgotten(&*self.engine.store, viewer.tenant, &viewer.user_id, &self.room_id).await;
        let forgotten = forgotten.map_err(ReadError::from)?;
        let for_ever = planted(Mutation::ForgottenForEver);
        if forgotten.is_some_and(|at| at.life == row.position.life && (at.seq >= row.since || for_ever)) {
            return Ok(Some(Outcome::unchanged(None)));
        }
        let room = match self.last_in(row.position.seq).await? {
            Some(leave) => self.left(Seq::ZERO, leave).await?.0,
            None => self.declined(row.position.seq).await?,
        };
        Ok(Some(Outcome::left(room)))
    }

    fn head_position(&self) -> polity_core::Position {
        let seq = self.head.seq;
        let seq = if planted(Mutation::TokenBehind) { Seq::new(seq.get() - 1) } else { seq };
        let seq = if planted(Mutation::TokenAhead) { seq.next() } else { seq };
        polity_core::Position::new(self.key.life, seq)
    }
}
