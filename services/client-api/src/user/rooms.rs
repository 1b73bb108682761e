//! What changes of a user owe to rooms: done after the request, and again after a crash. See [`polity_accounts::RoomWork`].

use async_trait::async_trait;
use polity_accounts::{Error, RoomWork};
use polity_core::TenantId;
use polity_proto::room_state::{LeaveRoomRequest, SetProfileRequest};
use polity_store::rooms::memberships;
use ruma_common::{OwnedDeviceId, RoomId, UserId};

use crate::{Api, ApiError, auth::Requester, endpoint::CALL, room_client};

/// What a user owes to a room.
#[derive(Debug, Clone, Copy)]
enum Owed {
    /// The profile as it is now.
    Profile,
    /// To leave it.
    Leave,
}

#[async_trait]
impl RoomWork for Api {
    async fn profile_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.in_rooms(tenant, user_id, &["join"], Owed::Profile).await
    }

    async fn leave_rooms(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        self.in_rooms(tenant, user_id, &["join", "invite", "knock"], Owed::Leave).await
    }
}

impl Api {
    /// Does what a user owes to all rooms where the membership is one of `which`, one room after the other.
    async fn in_rooms(&self, tenant: TenantId, user_id: &UserId, which: &[&str], owed: Owed) -> Result<(), Error> {
        // No device asks.
        let by = Requester { tenant, user_id: user_id.to_owned(), device_id: OwnedDeviceId::from(""), life: 0 };
        let rooms = memberships(&*self.store, tenant, user_id).await?;
        let mut missed = 0;
        for (room_id, _) in rooms.into_iter().filter(|(_, row)| which.contains(&row.membership.as_str())) {
            let paid = match owed {
                Owed::Profile => self.give_profile(&by, &room_id).await,
                Owed::Leave => self.leave(&by, &room_id).await,
            };
            match paid {
                Ok(()) => {}
                Err(error) if error.is_transient() => missed += 1,
                // Left or banned in the meantime: that room is no longer the user's.
                Err(error) => tracing::debug!(%error, room = %room_id, "a room refuses what a user owes to it"),
            }
        }
        if missed > 0 { Err(Error::Unfinished(format!("{missed} rooms couldn't be reached"))) } else { Ok(()) }
    }

    /// Gives a room the profile, which the room reads itself when it decides.
    async fn give_profile(&self, by: &Requester, room_id: &RoomId) -> Result<(), ApiError> {
        let (requester, room_id) = (room_client::requester(by), room_id.to_string());
        self.rooms
            .clone()
            .set_profile(self.call(SetProfileRequest { requester, room_id, profile: None }, CALL))
            .await?;
        Ok(())
    }

    async fn leave(&self, by: &Requester, room_id: &RoomId) -> Result<(), ApiError> {
        let request =
            LeaveRoomRequest { requester: room_client::requester(by), room_id: room_id.to_string(), reason: None };
        self.rooms.clone().leave_room(self.call(request, CALL)).await?;
        Ok(())
    }
}
