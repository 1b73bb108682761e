//! Puts a room into the directory, or takes it out: a row without event, so that the directory is a function of the log.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid>

use polity_core::Seq;
use polity_log::{Dedup, NewRow};
use polity_room_engine::record::{RoomRow, RowMeta, row_kind};
use ruma_events::StateEventType;

use super::{Change, Done, Outcome, Requester, member_key};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct List {
    pub(crate) requester: Requester,
    pub(crate) listed: bool,
}

impl Change for List {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let user_id = &self.requester.user_id;
        stage.expect_joined(user_id)?;
        // Who names the room to the world may also list it.
        let may = |levels: polity_room_engine::power::PowerLevels| {
            levels.user_can_send_state(user_id, StateEventType::RoomCanonicalAlias)
        };
        if !stage.levels().is_some_and(may) {
            return Err(RoomError::forbidden("not enough power to list this room"));
        }
        if stage.hot.head.listed == self.listed {
            return Ok(Outcome::Stands(Done { event_id: None, seq: Seq::ZERO, anew: false }));
        }
        let (device, txn) = self.requester.call.clone().map(|call| (call.device, call.txn)).unzip();
        let row = NewRow { device, txn, ..stage.list(self.listed, next)? };
        Ok(Outcome::Append(row, Done { event_id: None, seq: next, anew: true }))
    }
}

impl Stage<'_> {
    /// The row by which the room is listed from now on, or not.
    pub(crate) fn list(&mut self, listed: bool, seq: Seq) -> Result<NewRow, RoomError> {
        let (group_first, roots) = self.hot.group(seq);
        let head = &mut self.hot.head;
        head.listed = listed;
        let counts = head.counts;
        let meta = RowMeta {
            group_first,
            roots,
            counts,
            received_ms: self.now_ms,
            listed: Some(listed),
            ..RowMeta::default()
        };
        let body = RoomRow { meta, pdu: bytes::Bytes::new() }.encode();
        let body = body.map_err(|error| RoomError::internal(error.to_string()))?;
        Ok(NewRow { kind: row_kind::CONTROL, body, ..NewRow::default() })
    }
}
