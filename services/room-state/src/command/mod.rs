//! Commands on rooms, one per file.

mod create;
mod member;
mod send;

use polity_core::{Seq, TenantId};
use polity_log::Dedup;
use ruma_common::{OwnedDeviceId, OwnedEventId, OwnedUserId};

pub(crate) use create::{Create, INITIAL_STATE_MAX, Preset};
pub(crate) use member::{Change, Member};
pub(crate) use send::Send;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    pub(crate) tenant: TenantId,
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
}

impl Requester {
    /// The device, by a name that is unique in the room's log.
    pub(crate) fn device(&self) -> Box<str> {
        format!("{}|{}", self.user_id, self.device_id).into()
    }
}

/// A command on one room.
pub(crate) enum Command {
    Create(Box<Create>),
    Send(Box<Send>),
    Member(Box<Member>),
}

/// An event that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) event_id: OwnedEventId,
    pub(crate) seq: Seq,
}

impl Command {
    pub(crate) fn dedup(&self) -> Option<&Dedup> {
        match self {
            Self::Send(send) => send.dedup.as_ref(),
            Self::Create(_) | Self::Member(_) => None,
        }
    }

    /// The state that deciding it needs, beside what every command does.
    pub(crate) fn state_keys(&self) -> Vec<(String, String)> {
        let member = |user: &OwnedUserId| ("m.room.member".to_owned(), user.to_string());
        match self {
            Self::Create(_) => Vec::new(),
            Self::Send(send) => {
                let state = send.state_key.as_ref().map(|key| (send.event_type.to_string(), key.clone()));
                state.into_iter().chain([member(&send.requester.user_id)]).collect()
            }
            Self::Member(command) => vec![member(&command.requester.user_id), member(&command.target)],
        }
    }
}
