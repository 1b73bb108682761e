//! What is new to a client, everywhere.

use std::{collections::HashMap, sync::Arc};

use polity_core::{
    LogKey, Position, Seq,
    sync_token::{EphemeralPosition, RoomEntry, Told},
};
use polity_store::rooms::Membership;
use ruma_common::{OwnedRoomId, RoomId};

use super::{
    Answer, Engine, SyncError, SyncRequest,
    pass::RoomPass,
    room::{Outcome, Section},
    token::KnownRooms,
};
use crate::filter;

/// A user's rooms, and how the user stands in each.
pub(crate) type Memberships = Vec<(OwnedRoomId, Membership)>;

/// The positions of a client, but for its rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    /// In the user's record.
    pub record: Seq,
    /// In the inbox.
    pub inbox: Position,
    /// In the device-list changes.
    pub device_lists: Seq,
    /// In this process's memory.
    pub ephemeral: EphemeralPosition,
}

/// What a client knows, while it waits.
pub(crate) struct Progress {
    /// Its positions.
    pub at: Positions,
    /// Its rooms.
    pub rooms: KnownRooms,
    /// Whether it knows nothing at all.
    pub initial: bool,
}

impl Engine {
    /// Looks everywhere. `progress` becomes what the client knows after the answer.
    pub(crate) async fn collect(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        memberships: &[(OwnedRoomId, Membership)],
    ) -> Result<Answer, SyncError> {
        let mut answer = Answer::default();
        let ephemeral_now = self.ephemeral.position();
        let known = self.record_news(request, progress, &mut answer).await?;
        let names = short_names(request, memberships);
        for (room_id, row) in memberships {
            if !filter::concerns(&request.filter, room_id) {
                continue;
            }
            let entry = progress.rooms.get(&request.viewer.token_key, room_id);
            let alone = names.get(&request.viewer.token_key.room(room_id.as_str())).copied() == Some(1);
            self.look(request, progress, &mut answer, (room_id, Some(row), entry, alone)).await?;
        }
        self.room_account_data(request, progress, known, &mut answer).await?;
        self.device_news(request, progress, &mut answer).await?;
        progress.at.ephemeral = ephemeral_now;
        Ok(answer)
    }

    /// Looks at one room and notes what the client will know of it.
    pub(crate) async fn look(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        answer: &mut Answer,
        (room_id, row, entry, alone): (&RoomId, Option<&Membership>, Option<RoomEntry>, bool),
    ) -> Result<(), SyncError> {
        let worth_a_look = row.is_some_and(|row| matches!(row.membership.as_str(), "join" | "invite" | "knock"));
        if entry.is_none() && !worth_a_look {
            return Ok(());
        }
        let Some(key) = self.rooms.key(request.viewer.tenant, room_id).await? else { return Ok(()) };
        if let Some(entry) = entry
            && !request.full_state
            && self.is_unmoved(key, entry, row, progress.at.ephemeral)
        {
            return Ok(());
        }
        let Some(head) = self.rooms.head(key).await? else { return Ok(()) };
        let pass =
            RoomPass { engine: self, request, room_id: room_id.to_owned(), key, head, now_ms: self.clock.now_ms() };
        let Outcome { section, entry: next } = pass.outcome(entry, row, progress.at.ephemeral).await?;
        progress.rooms.set(&request.viewer.token_key, room_id, next, alone);
        match section {
            Section::None => {}
            Section::Joined(room) => answer.joined.push((room_id.to_owned(), *room)),
            Section::Left(room) => answer.left.push((room_id.to_owned(), *room)),
            Section::Stripped(Told::Knocking, events) => answer.knocked.push((room_id.to_owned(), events)),
            Section::Stripped(_, events) => answer.invited.push((room_id.to_owned(), events)),
        }
        Ok(())
    }

    /// Whether nothing can be new in a room: the head map has it where the client is, and nobody types or reads.
    fn is_unmoved(
        &self,
        key: LogKey,
        entry: RoomEntry,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> bool {
        let seq = entry.position.seq;
        let same_life = entry.position.life == key.life;
        let head_known = self.heads.get(key.tenant, key.log) == Some(seq);
        let row_older = row.is_none_or(|row| row.position.seq <= seq);
        let waits_for_rows_only = entry.told != Told::Member;
        let quiet = waits_for_rows_only
            || self.ephemeral.since((key.tenant, key.log), ephemeral) == crate::ephemeral::Changes::default();
        same_life && row_older && (head_known || waits_for_rows_only) && quiet
    }
}

/// How many of the user's rooms have each short name.
fn short_names(
    request: &SyncRequest,
    memberships: &[(OwnedRoomId, Membership)],
) -> HashMap<polity_core::sync_token::RoomRef, usize> {
    let mut names = HashMap::with_capacity(memberships.len());
    for (room_id, _) in memberships {
        *names.entry(request.viewer.token_key.room(room_id.as_str())).or_default() += 1;
    }
    names
}

/// Room account data that is new, by room.
pub(crate) type RoomAccountData = HashMap<OwnedRoomId, Vec<bytes::Bytes>>;

impl Engine {
    /// Puts room account data into the sections of its rooms, also of those that have nothing else.
    pub(crate) async fn room_account_data(
        &self,
        request: &SyncRequest,
        progress: &Progress,
        mut news: RoomAccountData,
        answer: &mut Answer,
    ) -> Result<(), SyncError> {
        for (room_id, room) in &mut answer.joined {
            room.account_data = news.remove(room_id).unwrap_or_default();
        }
        for (room_id, room) in &mut answer.left {
            room.account_data = news.remove(room_id).unwrap_or_default();
        }
        for (room_id, events) in news {
            let entry = progress.rooms.get(&request.viewer.token_key, &room_id);
            if entry.is_none_or(|entry| entry.told != Told::Member) {
                continue;
            }
            let Some(key) = self.rooms.key(request.viewer.tenant, &room_id).await? else { continue };
            let Some(head) = self.rooms.head(key).await? else { continue };
            let now_ms = self.clock.now_ms();
            let pass =
                RoomPass { engine: self, request, room_id: room_id.clone(), key, head: Arc::clone(&head), now_ms };
            let room = super::JoinedRoom { account_data: events, unread: pass.unread().await?, ..Default::default() };
            answer.joined.push((room_id, room));
        }
        Ok(())
    }
}
