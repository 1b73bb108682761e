//! What changes of a user owe to rooms: done after the request, and again after a crash. See [`polity_accounts::RoomWork`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use polity_accounts::{Error, RoomWork};
use polity_core::{ErrorKind, Random, TenantId};
use polity_proto::{
    Detail, Transport,
    room_state::{LeaveRoomRequest, Requester, SetProfileRequest},
};
use polity_store::{Store, rooms::memberships};
use ruma_common::{RoomId, UserId};

use crate::{
    Api,
    room_client::{self, RoomClient},
};

/// A room is given so long: others wait for it.
const CALL: Duration = Duration::from_secs(10);
/// Rooms of one user that are told at once.
const AT_ONCE: usize = 4;
/// After so many rooms that couldn't be reached the others are left for the next time.
const MISSED: usize = 8;

/// Does what users owe to rooms.
pub struct OwedToRooms {
    store: Arc<dyn Store>,
    rooms: RoomClient,
    random: Arc<dyn Random>,
}

/// What a user owes to a room.
#[derive(Debug, Clone, Copy)]
enum Owed {
    /// The profile as it is now.
    Profile,
    /// To leave it.
    Leave,
}

#[async_trait]
impl RoomWork for OwedToRooms {
    async fn profile_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.in_rooms(tenant, user_id, &["join"], Owed::Profile).await
    }

    async fn leave_rooms(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.in_rooms(tenant, user_id, &["join", "invite", "knock"], Owed::Leave).await
    }
}

impl OwedToRooms {
    /// For the users of a store, with the way to who writes rooms.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, rooms: Transport, random: Arc<dyn Random>) -> Self {
        Self { store, rooms: room_client::over(rooms), random }
    }

    /// Does what a user owes to all rooms where the membership is one of `which`, a few rooms at a time.
    async fn in_rooms(&self, tenant: TenantId, user_id: &UserId, which: &[&str], owed: Owed) -> Result<(), Error> {
        let rooms = memberships(&*self.store, tenant, user_id).await?;
        let missed = &AtomicUsize::new(0);
        let mut rooms: Vec<_> = rooms.into_iter().filter(|(_, row)| which.contains(&row.membership.as_str())).collect();
        // Somewhere else each time: rooms that can't be reached for long keep no others waiting.
        let first = self.random.below(rooms.len() as u64);
        rooms.rotate_left(usize::try_from(first).unwrap_or(0));
        stream::iter(rooms)
            .for_each_concurrent(AT_ONCE, |(room_id, _)| async move {
                if missed.load(Ordering::Relaxed) >= MISSED || !self.pay((tenant, user_id), &room_id, owed).await {
                    missed.fetch_add(1, Ordering::Relaxed);
                }
            })
            .await;
        match missed.load(Ordering::Relaxed) {
            0 => Ok(()),
            missed => Err(Error::Unfinished(format!("{missed} rooms couldn't be reached, or were left for later"))),
        }
    }

    /// Does it in one room; whether nothing is left to be done there.
    async fn pay(&self, (tenant, user_id): (TenantId, &UserId), room_id: &RoomId, owed: Owed) -> bool {
        // No device asks.
        let requester = Requester { tenant: tenant.get(), user_id: user_id.to_string(), ..Requester::default() };
        let (requester, room_id) = (Some(requester), room_id.to_string());
        let mut rooms = self.rooms.clone();
        let paid = match owed {
            Owed::Profile => {
                let message = SetProfileRequest { requester, room_id: room_id.clone() };
                rooms.set_profile(room_client::call(&*self.random, message, CALL)).await.map(drop)
            }
            Owed::Leave => {
                let message = LeaveRoomRequest { requester, room_id: room_id.clone(), reason: None };
                rooms.leave_room(room_client::call(&*self.random, message, CALL)).await.map(drop)
            }
        };
        let Err(status) = paid else { return true };
        let Detail { kind, message, .. } = Detail::from(&status);
        match kind {
            // Left, banned or purged in the meantime: that room is no longer the user's.
            ErrorKind::Forbidden | ErrorKind::NotFound => {}
            // One that isn't built there another process may have.
            ErrorKind::Unsupported => return false,
            kind if kind.is_transient() => return false,
            // A room that is damaged, say: the others must not wait for who mends it.
            _ => tracing::error!(%message, room = room_id, ?owed, "a room can't be given what a user owes to it"),
        }
        true
    }
}

impl Api {
    /// Who does what its users owe to rooms.
    #[must_use]
    pub fn room_work(&self) -> Arc<OwedToRooms> {
        let (store, rooms, random) = (Arc::clone(&self.store), self.rooms.clone(), Arc::clone(&self.random));
        Arc::new(OwedToRooms { store, rooms, random })
    }
}
