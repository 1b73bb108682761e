//! Calls of room-state.

use std::time::Duration;

use bytes::Bytes;
use polity_core::Random;
use polity_proto::{
    Transport,
    room_state::{
        BanUserRequest, CreateRoomRequest, InviteUserRequest, JoinRoomRequest, KickUserRequest, KnockRoomRequest,
        LeaveRoomRequest, ListRoomRequest, RedactEventRequest, Requester as ProtoRequester, SendEventRequest,
        SetProfileRequest, SetStateRequest, UnbanUserRequest, room_state_client::RoomStateClient,
    },
    route, with_deadline,
};
use ruma_common::OwnedEventId;

use crate::{Api, ApiError, auth::Requester, endpoint::Context};

/// The way to room-state.
pub(crate) type RoomClient = RoomStateClient<Transport>;

/// The way to room-state over a transport.
pub(crate) fn over(transport: Transport) -> RoomClient {
    // Larger than any event: the limits are room-state's to judge.
    RoomStateClient::new(transport).max_decoding_message_size(1 << 20).max_encoding_message_size(8 << 20)
}

/// A message to room-state, which goes to the process that has the room it is about.
pub(crate) trait Message: Sized {
    /// What it is about.
    fn route(&self) -> String;

    /// Whether carrying it out twice gives what carrying it out once gives.
    fn is_repeatable(&self) -> bool;

    /// Gives the call a name under which it is carried out once, however often it is made.
    fn name(&mut self, call: [u8; 16]);
}

macro_rules! about_rooms {
    ($($request:ty $(, $repeatable:expr)?;)*) => { $(
        impl Message for $request {
            fn route(&self) -> String {
                route::room(self.requester.as_ref().map_or(0, |requester| requester.tenant), &self.room_id)
            }

            fn is_repeatable(&self) -> bool {
                $(let repeatable: fn(&Self) -> bool = $repeatable;
                if repeatable(self) {
                    return true;
                })?
                self.requester.as_ref().is_some_and(|requester| !requester.call.is_empty())
            }

            fn name(&mut self, call: [u8; 16]) {
                if let Some(requester) = &mut self.requester {
                    requester.call = Bytes::copy_from_slice(&call);
                }
            }
        }
    )* };
}

about_rooms! {
    // A transaction is one, however often and however late it comes: all else is once it has a name, by which another copy finds what the
    // first one has appended. Without one a leave that waited in a process that was stopped would undo the join that came after it.
    SendEventRequest, |request| request.txn_id.is_some();
    RedactEventRequest, |request| request.txn_id.is_some();
    SetProfileRequest;
    ListRoomRequest;
    SetStateRequest;
    JoinRoomRequest;
    KnockRoomRequest;
    LeaveRoomRequest;
    InviteUserRequest;
    KickUserRequest;
    BanUserRequest;
    UnbanUserRequest;
}

impl Message for CreateRoomRequest {
    // There is no room yet: founders are spread.
    fn route(&self) -> String {
        let (tenant, user) = self.requester.as_ref().map_or((0, ""), |by| (by.tenant, by.user_id.as_str()));
        format!("user:{tenant:016x}/{user}")
    }

    // The room that a call has made is known to nobody until it is answered: there is no log to look for it in.
    fn is_repeatable(&self) -> bool {
        false
    }

    fn name(&mut self, _call: [u8; 16]) {}
}

/// A message that must be answered within `limit`, on its way to whoever has the room.
pub(crate) fn call<T: Message>(random: &dyn Random, mut message: T, limit: Duration) -> polity_proto::Call<T> {
    if !message.is_repeatable() {
        message.name(random.bytes());
    }
    let (to, repeatable) = (message.route(), message.is_repeatable());
    route::routed(with_deadline(message, limit), &to, repeatable)
}

/// Who asks, for the wire.
pub(crate) fn requester(requester: &Requester) -> Option<ProtoRequester> {
    Some(ProtoRequester {
        tenant: requester.tenant.get(),
        user_id: requester.user_id.to_string(),
        device_id: requester.device_id.to_string(),
        call: Bytes::new(),
    })
}

/// The id of an event that room-state has appended.
pub(crate) fn event_id(event: Option<polity_proto::room_state::Appended>) -> Result<OwnedEventId, ApiError> {
    OwnedEventId::try_from(event.unwrap_or_default().event_id)
        .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))
}

impl Context {
    /// The way to room-state.
    pub(crate) fn rooms(&self) -> RoomClient {
        self.api.rooms.clone()
    }

    /// A message that must be answered while this request has time.
    pub(crate) fn call<T: Message>(&self, message: T) -> polity_proto::Call<T> {
        self.api.call(message, self.within())
    }

    /// Who asks, for the wire.
    pub(crate) fn by(&self) -> Result<Option<ProtoRequester>, ApiError> {
        self.requester().map(requester)
    }
}

impl Api {
    /// A message that must be answered within `limit`, on its way to whoever has the room.
    pub(crate) fn call<T: Message>(&self, message: T, limit: Duration) -> polity_proto::Call<T> {
        call(&*self.random, message, limit)
    }
}
