//! Redaction: what stays of an event, and who may take the rest away.

use bytes::Bytes;
use ruma_common::{CanonicalJsonObject, canonical_json::redact_in_place, room_version_rules::RoomVersionRules};

use crate::pdu::{Pdu, UnreadablePdu};
use crate::power::PowerLevels;

/// `event` without what redaction takes from it, under the same id ("Redactions", by room version).
///
/// # Errors
/// When the stored event isn't canonical JSON.
pub fn redact(event: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, UnreadablePdu> {
    let unreadable = |source| UnreadablePdu { event_id: event.event_id().clone(), source };
    let mut object: CanonicalJsonObject = serde_json::from_slice(event.json()).map_err(unreadable)?;
    redact_in_place(&mut object, &rules.redaction, None)
        .map_err(|error| unreadable(serde::de::Error::custom(error)))?;
    let json = serde_json::to_vec(&object).map_err(unreadable)?;
    Pdu::from_stored(event.event_id().clone(), event.room_id().to_owned(), Bytes::from(json), rules)
}

/// Whether a redaction that was accepted into the room takes effect on `target`: with the power to redact, or on an event of the
/// same sender (room version 3 on, "Handling redactions"; events of one's own server only are not enough for a local user).
#[must_use]
pub fn may_redact(redaction: &Pdu, target: &Pdu, levels: &PowerLevels) -> bool {
    redaction.room_id() == target.room_id()
        && (redaction.sender() == target.sender() || levels.user_can_redact_event_of_other(redaction.sender()))
}
