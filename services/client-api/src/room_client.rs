//! Calls of room-state.

use polity_proto::{
    Transport,
    room_state::{Profile, Requester as ProtoRequester, room_state_client::RoomStateClient},
    with_deadline,
};
use ruma_common::{OwnedEventId, UserId};

use crate::{Api, ApiError, auth::Requester, endpoint::Context};

/// The way to room-state.
pub(crate) type RoomClient = RoomStateClient<Transport>;

/// The way to room-state over a transport.
pub(crate) fn over(transport: Transport) -> RoomClient {
    // Larger than any event: the limits are room-state's to judge.
    RoomStateClient::new(transport).max_decoding_message_size(1 << 20).max_encoding_message_size(8 << 20)
}

/// Who asks, for the wire.
pub(crate) fn requester(requester: &Requester) -> Option<ProtoRequester> {
    Some(ProtoRequester {
        tenant: requester.tenant.get(),
        user_id: requester.user_id.to_string(),
        device_id: requester.device_id.to_string(),
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
    pub(crate) fn call<T>(&self, message: T) -> polity_proto::Call<T> {
        with_deadline(message, self.within())
    }

    /// Who asks, for the wire.
    pub(crate) fn by(&self) -> Result<Option<ProtoRequester>, ApiError> {
        self.requester().map(requester)
    }
}

impl Api {
    /// A user's profile for member events; empty for users that aren't here.
    pub(crate) async fn profile_of(&self, by: &Requester, user_id: &UserId) -> Result<Profile, ApiError> {
        let mut profile = match self.accounts.profile(by.tenant, user_id).await {
            Err(polity_accounts::Error::NoAccount) => return Ok(Profile::default()),
            profile => profile?,
        };
        Ok(Profile { displayname: profile.remove("displayname"), avatar_url: profile.remove("avatar_url") })
    }
}
