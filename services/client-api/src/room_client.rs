//! Calls of room-state.

use std::time::Duration;

use polity_proto::{
    Detail, Transport,
    room_state::{
        CreateRoomRequest, EventResponse, Profile, Requester as ProtoRequester, SendEventRequest, SetMembershipRequest,
        room_state_client::RoomStateClient,
    },
    with_deadline,
};
use ruma_common::{OwnedEventId, OwnedRoomId, RoomId, UserId};

use crate::{Api, ApiError, auth::Requester};

/// The way to room-state.
#[derive(Clone)]
pub(crate) struct RoomClient(RoomStateClient<Transport>);

/// A change of a membership.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// What it is to be: `join`, `leave`, `invite`, `ban`, `unban`.
    pub(crate) membership: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) is_direct: bool,
    pub(crate) profile_only: bool,
}

pub(crate) fn requester(requester: &Requester) -> Option<ProtoRequester> {
    Some(ProtoRequester {
        tenant: requester.tenant.get(),
        user_id: requester.user_id.to_string(),
        device_id: requester.device_id.to_string(),
    })
}

impl RoomClient {
    pub(crate) fn new(transport: Transport) -> Self {
        // Larger than any event: the limits are room-state's to judge.
        Self(RoomStateClient::new(transport).max_decoding_message_size(1 << 20).max_encoding_message_size(8 << 20))
    }

    pub(crate) async fn create(&self, request: CreateRoomRequest, within: Duration) -> Result<OwnedRoomId, ApiError> {
        let request = with_deadline(request, within);
        let answer = self.0.clone().create_room(request).await.map_err(|status| Detail::from(&status))?.into_inner();
        OwnedRoomId::try_from(answer.room_id)
            .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))
    }

    pub(crate) async fn send(&self, request: SendEventRequest, within: Duration) -> Result<OwnedEventId, ApiError> {
        let request = with_deadline(request, within);
        event_id(self.0.clone().send_event(request).await.map_err(|status| Detail::from(&status))?.into_inner())
    }
}

fn event_id(answer: EventResponse) -> Result<OwnedEventId, ApiError> {
    OwnedEventId::try_from(answer.event_id)
        .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))
}

impl Api {
    /// Changes a membership; the profile of the target goes with it where the target is a user here.
    pub(crate) async fn set_membership(
        &self,
        by: &Requester,
        room_id: &RoomId,
        target: &UserId,
        change: Membership,
        within: Duration,
    ) -> Result<OwnedEventId, ApiError> {
        let request = SetMembershipRequest {
            requester: requester(by),
            room_id: room_id.to_string(),
            target: target.to_string(),
            membership: change.membership.to_owned(),
            reason: change.reason,
            profile: Some(self.profile_of(by, target).await?),
            is_direct: change.is_direct,
            profile_only: change.profile_only,
        };
        let request = with_deadline(request, within);
        event_id(
            self.rooms.0.clone().set_membership(request).await.map_err(|status| Detail::from(&status))?.into_inner(),
        )
    }

    /// A user's profile for member events; empty for users that aren't here.
    pub(crate) async fn profile_of(&self, by: &Requester, user_id: &UserId) -> Result<Profile, ApiError> {
        if !self.accounts.exists(by.tenant, user_id).await? {
            return Ok(Profile::default());
        }
        Ok(Profile {
            displayname: self.accounts.profile(by.tenant, user_id, "displayname").await?,
            avatar_url: self.accounts.profile(by.tenant, user_id, "avatar_url").await?,
        })
    }
}
