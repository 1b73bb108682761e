//! What changes of a user owe to rooms: done after the request, and again after a crash. See [`polity_accounts::RoomWork`].

use async_trait::async_trait;
use polity_accounts::{Error, RoomWork};
use polity_core::TenantId;
use polity_store::rooms::memberships;
use ruma_common::{OwnedDeviceId, UserId};

use crate::{Api, auth::Requester, endpoint::CALL, room_client::Membership};

#[async_trait]
impl RoomWork for Api {
    async fn profile_changed(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        // Each room is given the profile as it is then: the newest value, and none twice.
        let change = || Membership { membership: "join", profile_only: true, ..Membership::default() };
        self.in_rooms(tenant, user_id, &["join"], change).await
    }

    async fn leave_rooms(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let change = || Membership { membership: "leave", ..Membership::default() };
        self.in_rooms(tenant, user_id, &["join", "invite", "knock"], change).await
    }
}

impl Api {
    /// Changes a user's own membership in all rooms where it is one of `memberships`, one room after the other.
    async fn in_rooms(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        which: &[&str],
        change: impl Fn() -> Membership,
    ) -> Result<(), Error> {
        // No device asks.
        let by = Requester { tenant, user_id: user_id.to_owned(), device_id: OwnedDeviceId::from(""), life: 0 };
        let rooms = memberships(&*self.store, tenant, user_id).await?;
        let mut missed = 0;
        for (room_id, _) in rooms.into_iter().filter(|(_, row)| which.contains(&row.membership.as_str())) {
            match self.set_membership(&by, &room_id, user_id, change(), CALL).await {
                Ok(_) => {}
                Err(error) if error.is_transient() => missed += 1,
                // Left or banned in the meantime: that room is no longer the user's.
                Err(error) => tracing::debug!(%error, room = %room_id, "a room refuses what a user owes to it"),
            }
        }
        if missed > 0 { Err(Error::Unfinished(format!("{missed} rooms couldn't be reached"))) } else { Ok(()) }
    }
}
