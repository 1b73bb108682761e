//! Power levels as a typed view of the state, creators included.

use ruma_common::room_version_rules::RoomVersionRules;
use ruma_events::room::power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent};
use ruma_state_res::events::RoomCreateEvent;

use crate::{auth::Rejection, pdu::Pdu};

/// A room's power levels with the rules of its version: creators have infinite power since version 12. Its methods answer who
/// may ban, kick, invite, redact, send and notify.
pub type PowerLevels = RoomPowerLevels;

/// The levels that a room's create event and, if there is one, its `m.room.power_levels` give.
///
/// # Errors
/// When either has malformed content.
pub fn power_levels(create: &Pdu, levels: Option<&Pdu>, rules: &RoomVersionRules) -> Result<PowerLevels, Rejection> {
    let creators = RoomCreateEvent::new(create).creators(&rules.authorization).map_err(Rejection::Malformed)?;
    let content: Option<RoomPowerLevelsEventContent> = levels
        .map(|event| serde_json::from_str(event.content().get()))
        .transpose()
        .map_err(|error| Rejection::Malformed(format!("malformed m.room.power_levels: {error}")))?;
    Ok(RoomPowerLevels::new(content.into(), &rules.authorization, creators))
}
