//! What a user may do in a room, by its power levels at a head.

use polity_core::LogKey;
use polity_room_engine::{
    pdu::Pdu,
    power::{PowerLevels, power_levels},
};
use ruma_common::{UserId, room_version_rules::RoomVersionRules};

use super::{Engine, SyncError};
use crate::read::{ReadError, RoomState, StateView};

impl Engine {
    /// Whether a user's level is enough to send state of a type. Says nothing about whether the user is in the room.
    ///
    /// # Errors
    /// When the state can't be read.
    pub async fn may_send_state(
        &self,
        key: LogKey,
        head: &RoomState,
        user_id: &UserId,
        event_type: &str,
    ) -> Result<bool, SyncError> {
        let levels = self.power_levels(key, head).await?;
        Ok(levels.is_some_and(|levels| levels.user_can_send_state(user_id, event_type.into())))
    }

    async fn power_levels(&self, key: LogKey, head: &RoomState) -> Result<Option<PowerLevels>, SyncError> {
        let Some(rules) = head.room.version.rules() else { return Ok(None) };
        let Some(create) = self.state_pdu(key, head, &rules, "m.room.create").await? else { return Ok(None) };
        let levels = self.state_pdu(key, head, &rules, "m.room.power_levels").await?;
        Ok(power_levels(&create, levels.as_ref(), &rules).ok())
    }

    async fn state_pdu(
        &self,
        key: LogKey,
        head: &RoomState,
        rules: &RoomVersionRules,
        event_type: &str,
    ) -> Result<Option<Pdu>, SyncError> {
        let state = StateView::at_roots(head.room.roots);
        let row = self.rooms.state_event(key, &state, event_type, "").await?;
        let row = self.as_redacted(key, head, row.into_iter().collect()).await?.pop();
        let Some(event) = row.as_ref().and_then(|row| row.event.as_ref()) else { return Ok(None) };
        let pdu = Pdu::from_stored(event.event_id.clone(), head.room.room_id.clone(), event.pdu.clone(), rules);
        Ok(Some(pdu.map_err(|error| ReadError::Damaged(error.to_string()))?))
    }
}
