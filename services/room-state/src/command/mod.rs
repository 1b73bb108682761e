//! Commands on rooms, one per file.

mod ban;
mod create;
mod invite;
mod join;
mod kick;
mod knock;
mod leave;
mod list;
mod redact;
mod send;
mod set_profile;
mod set_state;
mod unban;

use polity_core::{ErrorKind, Seq, TenantId};
use polity_log::{Dedup, NewRow};
use polity_proto::Reason;
use polity_room_engine::build::MAX_KEY_BYTES;
use ruma_common::{EventId, OwnedDeviceId, OwnedEventId, OwnedUserId, UserId};

use crate::{error::RoomError, stage::Stage};

pub(crate) use ban::Ban;
pub(crate) use create::{Create, INITIAL_STATE_MAX, INVITE_MAX, Preset};
pub(crate) use invite::Invite;
pub(crate) use join::{Conditions, Findings, Join};
pub(crate) use kick::Kick;
pub(crate) use knock::Knock;
pub(crate) use leave::Leave;
pub(crate) use list::List;
pub(crate) use redact::Redact;
pub(crate) use send::Send;
pub(crate) use set_profile::SetProfile;
pub(crate) use set_state::SetState;
pub(crate) use unban::Unban;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    pub(crate) tenant: TenantId,
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
    /// By which a call that could have another effect the second time is known to have been carried out.
    pub(crate) call: Option<Dedup>,
}

/// A command on one room.
pub(crate) enum Command {
    /// Makes it.
    Create(Box<Create>),
    /// Changes it.
    Change(Box<dyn Change>),
}

/// A command on a room that exists.
pub(crate) trait Change: std::marker::Send + Sync {
    /// The transaction that makes it the same as an earlier one.
    fn dedup(&self) -> Option<&Dedup> {
        None
    }

    /// The entries of the state that deciding it needs, beside those that every command does.
    fn needs(&self) -> Vec<(String, String)>;

    /// Whose profile deciding it needs, as it is when it is decided.
    fn profile_of(&self) -> Option<&UserId> {
        None
    }

    /// The event that it redacts.
    fn redacts(&self) -> Option<&EventId> {
        None
    }

    /// What who asks is told when there is no such room: by default the same as of a room that isn't theirs.
    fn without_room(&self) -> RoomError {
        RoomError::forbidden("you are not in this room")
    }

    /// Decides it; its row will have the number `next`.
    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError>;
}

/// What a change comes to.
pub(crate) enum Outcome {
    /// This row is to be appended.
    Append(NewRow, Done),
    /// It is so already.
    Stands(Done),
    /// It can't be decided from this room alone.
    Ask(Conditions),
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done(Done),
    /// The command is to be given again, with findings about these.
    Ask(Conditions),
}

/// A row that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    /// Its event; rows about the directory have none.
    pub(crate) event_id: Option<OwnedEventId>,
    /// Where it stands; zero: before this command.
    pub(crate) seq: Seq,
    /// Whether this command appended it: not another one, nor an earlier copy of this one.
    pub(crate) anew: bool,
}

// === impl Requester ===

impl Requester {
    /// The transaction `txn` of this device on an endpoint and what that is about, by a name that is unique in the room's log.
    ///
    /// Readers take the client's id from what follows the line break: see `StoredRow::transaction_of` in `lib/sync`.
    ///
    /// # Errors
    /// It is longer than the name of anything in an event.
    pub(crate) fn transaction(&self, (endpoint, about): (&str, &str), txn: &str) -> Result<Dedup, RoomError> {
        if about.len().max(txn.len()) > MAX_KEY_BYTES {
            let message = format!("types, ids and transaction ids have at most {MAX_KEY_BYTES} bytes");
            return Err(RoomError::new(ErrorKind::TooLarge, Reason::TooLarge, message));
        }
        let device = format!("{}|{}", self.user_id, self.device_id);
        Ok(Dedup { device: device.into(), txn: format!("{endpoint}/{about}\n{txn}").into() })
    }
}

// === impl Command ===

impl Command {
    /// What it changes, unless it makes the room.
    pub(crate) fn change(&self) -> Option<&dyn Change> {
        if let Self::Change(change) = self { Some(&**change) } else { None }
    }

    /// See [`Change::without_room`].
    pub(crate) fn without_room(&self) -> RoomError {
        match self {
            Self::Create(_) => RoomError::internal("a room is made under a name that nobody has noted"),
            Self::Change(change) => change.without_room(),
        }
    }

    pub(crate) fn dedup(&self) -> Option<&Dedup> {
        match self {
            Self::Create(_) => None,
            Self::Change(change) => change.dedup(),
        }
    }
}

impl<C: Change + 'static> From<C> for Command {
    fn from(change: C) -> Self {
        Self::Change(Box::new(change))
    }
}

// === impl Done ===

impl Done {
    /// What stood there before.
    pub(crate) fn before(event_id: &EventId) -> Self {
        Self { event_id: Some(event_id.to_owned()), seq: Seq::ZERO, anew: false }
    }
}

/// The state's entry of a user's membership.
pub(crate) fn member_key(user_id: &UserId) -> (String, String) {
    ("m.room.member".to_owned(), user_id.to_string())
}
