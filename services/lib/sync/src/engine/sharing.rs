//! Whose devices a client follows: those of everybody in an encrypted room with its user. Worked out from the state of rooms, never
//! from what a timeline happens to show.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::{BTreeSet, HashSet};

use polity_core::{LogKey, Seq, TenantId, sync_token::Told};
use ruma_common::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    Engine, SyncError, SyncRequest, joined::Known, pass::RoomPass, progress::Knows, state::Had, stretch::membership_of,
    token::KnownRooms, window,
};
use crate::{
    filter,
    read::{Part, StateView},
};

/// Who came to share an encrypted room with the user, and who left one.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// Those who share one now and perhaps didn't.
    pub came: BTreeSet<OwnedUserId>,
    /// Those who share one room less.
    pub went: BTreeSet<OwnedUserId>,
}

impl Sharing {
    /// Takes another room's in.
    pub(crate) fn add(&mut self, other: Self) {
        self.came.extend(other.came);
        self.went.extend(other.went);
    }
}

impl RoomPass<'_> {
    /// What a room's news mean for the devices that the client follows.
    pub(crate) async fn sharing(&self, known: Known, had: &Had) -> Result<Sharing, SyncError> {
        let mut sharing = Sharing::default();
        if self.knows == Knows::Nothing || self.head.room.summary.encryption.is_none() {
            return Ok(sharing);
        }
        match had {
            Had::Same => {}
            Had::Nothing => {
                sharing.came = self.members(&self.now()).await?;
                if let Known::Before(seq) = known {
                    // Who has gone since the client's last stretch in the room is gone for it, too.
                    sharing.went = self.members(&window::state_after(&self.engine.rooms, self.key, seq).await?).await?;
                }
            }
            Had::State { view, changes } => {
                let generation = self.head.room.generation;
                let was = self.engine.rooms.state_id(self.key, generation, view, "m.room.encryption", "").await?;
                if was.is_none() {
                    sharing.came = self.members(&self.now()).await?;
                    return Ok(sharing);
                }
                for change in changes.iter().filter(|change| change.event_type == "m.room.member") {
                    let Ok(user_id) = OwnedUserId::try_from(change.state_key.as_str()) else { continue };
                    match self.joined_since(change.now.as_deref()).await? {
                        // Also who left meanwhile, and came back: what changed in between nobody told.
                        Some(since) if since > known.seq() => drop(sharing.came.insert(user_id)),
                        Some(_) => {}
                        None if self.joined_since(change.then.as_deref()).await?.is_some() => {
                            sharing.went.insert(user_id);
                        }
                        None => {}
                    }
                }
            }
        }
        sharing.came.remove(&self.request.viewer.user_id);
        Ok(sharing)
    }

    /// With whom the user shares a room less by having left this one: everybody who was in it then, or (`had`) when the client was told of it
    /// last.
    pub(crate) async fn unshared(&self, had: &Had, before_leave: &StateView) -> Result<Sharing, SyncError> {
        let generation = self.head.room.generation;
        let encrypted =
            self.engine.rooms.state_id(self.key, generation, before_leave, "m.room.encryption", "").await?.is_some();
        if !encrypted || self.knows != Knows::Token {
            return Ok(Sharing::default());
        }
        let mut went = self.members(before_leave).await?;
        if let Had::State { view, .. } = had {
            went.extend(self.members(view).await?);
        }
        Ok(Sharing { went, ..Sharing::default() })
    }

    /// Everybody else who is in the room.
    async fn members(&self, state: &StateView) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let mut members = self.engine.everybody_in(self.key, self.head.room.generation, state).await?;
        members.remove(&self.request.viewer.user_id);
        Ok(members)
    }

    /// If this event of the room's state is a join: since which row the member has been in the room.
    async fn joined_since(&self, event_id: Option<&EventId>) -> Result<Option<Seq>, SyncError> {
        let Some(event_id) = event_id else { return Ok(None) };
        self.engine.joined_since(self.key, event_id).await
    }
}

/// The encrypted rooms of a request's user, looked at when somebody's devices changed.
pub(crate) struct Mine<'a> {
    engine: &'a Engine,
    request: &'a SyncRequest,
    rooms: HashSet<OwnedRoomId>,
}

impl<'a> Mine<'a> {
    /// The rooms that the user has joined, by `rows` or (none given) as they stand in the store.
    pub(crate) async fn new(
        engine: &'a Engine,
        request: &'a SyncRequest,
        rows: Option<&[(OwnedRoomId, polity_store::rooms::Membership)]>,
    ) -> Result<Self, SyncError> {
        let viewer = &request.viewer;
        let rooms = match rows {
            Some(rows) => rows.iter().filter(|(_, row)| row.membership == "join").map(|(id, _)| id.clone()).collect(),
            None => joined_rooms(engine, viewer.tenant, &viewer.user_id).await?.into_iter().collect(),
        };
        Ok(Self { engine, request, rooms })
    }

    /// Whether somebody is in one of them as far as the client knows it: what has happened since is told next time.
    pub(crate) async fn knows_user(&self, user_id: &UserId, known: &KnownRooms) -> Result<bool, SyncError> {
        let (engine, viewer) = (self.engine, &self.request.viewer);
        let theirs = joined_rooms(engine, viewer.tenant, user_id).await?;
        for room_id in theirs.iter().filter(|room_id| self.rooms.contains(*room_id)) {
            if !filter::concerns(&self.request.filter, room_id) {
                // It isn't looked at for this client, which may have been told of it without the filter.
                if engine.shares(self.request, user_id, room_id).await? {
                    return Ok(true);
                }
                continue;
            }
            let Some(key) = engine.rooms.key(viewer.tenant, room_id).await? else { continue };
            let entry = known.get(&viewer.token_key, room_id);
            let Some(entry) = entry.filter(|entry| entry.told == Told::Member && entry.position.life == key.life)
            else {
                continue;
            };
            let state = window::state_after(&engine.rooms, key, entry.position.seq).await?;
            let is_encrypted = engine.rooms.state_event(key, &state, "m.room.encryption", "").await?.is_some();
            if is_encrypted && engine.has_joined(key, &state, user_id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Everybody whose devices the user follows, and the user.
    pub(crate) async fn everybody(&self) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let (engine, viewer) = (self.engine, &self.request.viewer);
        let mut all = BTreeSet::from([viewer.user_id.clone()]);
        for room_id in &self.rooms {
            let Some(key) = engine.rooms.key(viewer.tenant, room_id).await? else { continue };
            let Some(head) = engine.rooms.head(key).await? else { continue };
            if head.room.summary.encryption.is_some() {
                let (generation, state) = (head.room.generation, StateView::at_roots(head.room.roots));
                let members = engine.everybody_in(key, generation, &state).await?;
                // By its own state: the user's row may be late.
                if members.contains(&viewer.user_id) {
                    all.extend(members);
                }
            }
        }
        Ok(all)
    }

    /// Whether somebody is in one of them. Whoever joins later is told as having come.
    pub(crate) async fn has_user(&self, user_id: &UserId) -> Result<bool, SyncError> {
        let theirs = joined_rooms(self.engine, self.request.viewer.tenant, user_id).await?;
        for room_id in theirs.iter().filter(|room_id| self.rooms.contains(*room_id)) {
            if self.engine.shares(self.request, user_id, room_id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

async fn joined_rooms(engine: &Engine, tenant: TenantId, user_id: &UserId) -> Result<Vec<OwnedRoomId>, SyncError> {
    let rows = engine.memberships(tenant, user_id).await?;
    Ok(rows.iter().filter(|(_, row)| row.membership == "join").map(|(room_id, _)| room_id.clone()).collect())
}

impl Engine {
    /// Everybody who is in a room.
    async fn everybody_in(
        &self,
        key: LogKey,
        generation: u32,
        state: &StateView,
    ) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let mut members = BTreeSet::new();
        for ((_, user), event_id) in self.rooms.entries(key, generation, state, Part::Members).await? {
            if self.joined_since(key, &event_id).await?.is_some() {
                members.extend(OwnedUserId::try_from(user));
            }
        }
        Ok(members)
    }

    /// What is told of a room may not be projected yet, so it is looked for in the room's rows, too.
    async fn joined_since(&self, key: LogKey, event_id: &EventId) -> Result<Option<Seq>, SyncError> {
        let row = self.rooms.event_of_state(key, event_id).await?;
        let change = row.as_ref().and_then(|row| row.meta.membership.as_ref());
        Ok(change.filter(|change| change.membership == "join").map(|change| change.since))
    }

    /// Whether a room is encrypted and both the request's user and another are in it, by its state at the head.
    async fn shares(&self, request: &SyncRequest, other: &UserId, room_id: &RoomId) -> Result<bool, SyncError> {
        let viewer = &request.viewer;
        let Some(key) = self.rooms.key(viewer.tenant, room_id).await? else { return Ok(false) };
        let Some(head) = self.rooms.head(key).await? else { return Ok(false) };
        if head.room.summary.encryption.is_none() {
            return Ok(false);
        }
        let state = StateView::at_roots(head.room.roots);
        Ok(self.has_joined(key, &state, &viewer.user_id).await? && self.has_joined(key, &state, other).await?)
    }

    async fn has_joined(&self, key: LogKey, state: &StateView, user_id: &UserId) -> Result<bool, SyncError> {
        let row = self.rooms.state_event(key, state, "m.room.member", user_id.as_str()).await?;
        Ok(row.as_deref().and_then(membership_of).is_some_and(|(membership, _)| membership == "join"))
    }
}
