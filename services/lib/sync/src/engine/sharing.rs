//! Whose devices a client follows: those of everybody in an encrypted room with its user. Worked out from the state of rooms, never
//! from what a timeline happens to show.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::{BTreeSet, HashSet};

use polity_core::{
    LogKey, Seq, TenantId,
    mutation::{Mutation, planted},
};
use ruma_common::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{
    Engine, SyncError, SyncRequest, joined::Known, pass::RoomPass, progress::Knows, state::Had, stretch::membership_of,
    window,
};
use crate::read::{Part, StateView};

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
                    let (was, is) = (
                        self.joined_since(change.then.as_deref()).await?,
                        self.joined_since(change.now.as_deref()).await?,
                    );
                    // Also who left meanwhile, and came back: what changed in between nobody told.
                    if is.is_some_and(|since| {
                        since > known.seq() && !(was.is_some() && planted(Mutation::RejoinUnshared))
                    }) {
                        sharing.came.insert(user_id);
                    } else if was.is_some() && is.is_none() {
                        sharing.went.insert(user_id);
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
        let row = if planted(Mutation::JoinUnshared) {
            self.rooms.event(key.tenant, event_id).await?
        } else {
            self.rooms.event_of_state(key, event_id).await?
        };
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
        for user_id in [&*viewer.user_id, other] {
            let row = self.rooms.state_event(key, &state, "m.room.member", user_id.as_str()).await?;
            if row.as_deref().and_then(membership_of).is_none_or(|(membership, _)| membership != "join") {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
