//! Whose devices a client follows: those of everybody in an encrypted room with its user. Worked out from the state of rooms, never
//! from what a timeline happens to show.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use polity_core::{LogKey, Seq, TenantId};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{Engine, SyncError, SyncRequest, pass::RoomPass, progress::Knows, state::Had, stretch::membership_of};
use crate::{
    metric,
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

/// A user.
type Name = (TenantId, OwnedUserId);
/// The rooms that a user had joined after a row of the tenant's device-list changes.
type JoinedAt = (Seq, Arc<[OwnedRoomId]>);

#[derive(Clone)]
struct BySize;

impl Weighter<Name, JoinedAt> for BySize {
    fn weight(&self, _user: &Name, (_, rooms): &JoinedAt) -> u64 {
        128 + 64 * rooms.len() as u64
    }
}

/// The rooms of users whose devices changed: read once a change, not once for each who has to hear of it.
pub struct ChangedUsers(Cache<Name, JoinedAt, BySize>);

impl ChangedUsers {
    /// At most so many bytes of them.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Cache::with_weighter(usize::try_from(bytes / 512).unwrap_or(1024), bytes, BySize))
    }

    pub(super) fn tell_size(&self) {
        metric::bytes("changed_users", self.0.weight());
    }
}

impl RoomPass<'_> {
    /// What a room's news mean for the devices that the client follows.
    pub(crate) async fn sharing(&self, had: &Had) -> Result<Sharing, SyncError> {
        let mut sharing = Sharing::default();
        if self.knows == Knows::Nothing || self.head.room.summary.encryption.is_none() {
            return Ok(sharing);
        }
        match had {
            Had::Same => {}
            Had::Nothing => sharing.came = self.members(&self.now()).await?,
            Had::State { view, changes } => {
                let generation = self.head.room.generation;
                let was = self.engine.rooms.state_id(self.key, generation, view, "m.room.encryption", "").await?;
                if was.is_none() {
                    sharing.came = self.members(&self.now()).await?;
                    return Ok(sharing);
                }
                for change in changes.iter().filter(|change| change.event_type == "m.room.member") {
                    let Ok(user_id) = OwnedUserId::try_from(change.state_key.as_str()) else { continue };
                    match (self.joins(change.then.as_deref()).await?, self.joins(change.now.as_deref()).await?) {
                        (false, true) => drop(sharing.came.insert(user_id)),
                        (true, false) => drop(sharing.went.insert(user_id)),
                        _ => {}
                    }
                }
            }
        }
        sharing.came.remove(&self.request.viewer.user_id);
        Ok(sharing)
    }

    /// With whom the user shares a room less by having left this one: everybody who was in it then.
    pub(crate) async fn unshared(&self, before_leave: &StateView) -> Result<Sharing, SyncError> {
        let generation = self.head.room.generation;
        let encrypted =
            self.engine.rooms.state_id(self.key, generation, before_leave, "m.room.encryption", "").await?.is_some();
        if !encrypted || self.knows != Knows::Token {
            return Ok(Sharing::default());
        }
        Ok(Sharing { went: self.members(before_leave).await?, ..Sharing::default() })
    }

    /// Everybody else who is in the room.
    async fn members(&self, state: &StateView) -> Result<BTreeSet<OwnedUserId>, SyncError> {
        let mut members = self.engine.everybody_in(self.key, self.head.room.generation, state).await?;
        members.remove(&self.request.viewer.user_id);
        Ok(members)
    }

    async fn joins(&self, event_id: Option<&EventId>) -> Result<bool, SyncError> {
        let Some(event_id) = event_id else { return Ok(false) };
        self.engine.is_join(self.key.tenant, event_id).await
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

    /// Whether somebody whose devices changed at a row of the tenant's log is in one of them.
    pub(crate) async fn has_changed_user(&self, user_id: &UserId, changed_at: Seq) -> Result<bool, SyncError> {
        let tenant = self.request.viewer.tenant;
        let name = (tenant, user_id.to_owned());
        let cache = &self.engine.changed_users.0;
        // Whoever joined since then is told as having come.
        let theirs = match cache.get(&name).filter(|(at, _)| *at >= changed_at) {
            Some((_, rooms)) => rooms,
            None => {
                let rooms: Arc<[OwnedRoomId]> = joined_rooms(self.engine, tenant, user_id).await?.into();
                cache.insert(name, (changed_at, Arc::clone(&rooms)));
                rooms
            }
        };
        self.has(user_id, &theirs).await
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

    /// Whether somebody is in one of them.
    pub(crate) async fn has_user(&self, user_id: &UserId) -> Result<bool, SyncError> {
        let theirs = joined_rooms(self.engine, self.request.viewer.tenant, user_id).await?;
        self.has(user_id, &theirs).await
    }

    async fn has(&self, user_id: &UserId, theirs: &[OwnedRoomId]) -> Result<bool, SyncError> {
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
            if self.is_join(key.tenant, &event_id).await? {
                members.extend(OwnedUserId::try_from(user));
            }
        }
        Ok(members)
    }

    async fn is_join(&self, tenant: TenantId, event_id: &EventId) -> Result<bool, SyncError> {
        let row = self.rooms.event(tenant, event_id).await?;
        Ok(row.as_deref().and_then(membership_of).is_some_and(|(membership, _)| membership == "join"))
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
