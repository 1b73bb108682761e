//! What a room's rows mean for everything beside its log: a function of the rows.

use polity_core::{
    LogKey, Position,
    mutation::{Mutation, planted},
};
use polity_log::{LogError, LogRow};
use polity_room_engine::record::RoomRow;
use polity_store::{
    Write,
    rooms::{self, Membership},
};
use ruma_common::RoomId;

/// The projections of one row.
pub(crate) fn project(key: LogKey, room_id: &RoomId, row: &LogRow, out: &mut Vec<Write>) -> Result<(), LogError> {
    let meta = RoomRow::decode(&row.body).map_err(|error| LogError::Corrupt(error.to_string()))?.meta;
    let position = Position::new(key.life, row.seq);
    if let Some(event_id) = &row.event_id {
        out.push(rooms::put_event(key, event_id, row.seq));
    }
    if let Some(change) = meta.membership {
        if planted(Mutation::ForgetCleared) && change.membership == "leave" {
            out.push(rooms::forget_cleared(key.tenant, &change.user_id, room_id, position));
        }
        let membership = Membership { membership: change.membership, position, since: change.since };
        out.push(rooms::put_membership(key.tenant, &change.user_id, room_id, &membership)?);
    }
    if let Some(listed) = meta.listed {
        out.push(rooms::put_listing(key.tenant, room_id, listed, position));
    }
    if let (Some((_, Some(target))), Some(event_id)) = (meta.redacts, &row.event_id) {
        out.push(rooms::put_redaction(key, target, position, event_id));
    }
    Ok(())
}
