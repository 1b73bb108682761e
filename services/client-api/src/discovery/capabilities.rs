//! `GET /_matrix/client/v3/capabilities`: what the user may do here.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities>

use ruma_client_api::discovery::get_capabilities::v3::{
    Capabilities, ChangePasswordCapability, Request, Response, RoomVersionStability, RoomVersionsCapability,
    ThirdPartyIdChangesCapability,
};
use ruma_common::RoomVersionId;

use crate::{ApiError, endpoint::Context};

/// The room versions that can be made and joined.
const ROOM_VERSIONS: [RoomVersionId; 3] = [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12];

pub(crate) async fn capabilities(context: Context, _request: Request) -> Result<Response, ApiError> {
    let mut capabilities = Capabilities::default();
    let available = ROOM_VERSIONS.map(|version| (version, RoomVersionStability::Stable)).into_iter().collect();
    capabilities.room_versions = RoomVersionsCapability::new(context.api.default_room_version.clone(), available);
    // Neither is built yet: clients hide what is off.
    capabilities.change_password = ChangePasswordCapability::new(false);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    Ok(Response::new(capabilities))
}
