//! `GET /joined_rooms`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms>

use polity_store::rooms::memberships;
use ruma_client_api::membership::joined_rooms::v3::{Request, Response};

use crate::{ApiError, endpoint::Context};

pub(super) async fn joined_rooms(context: Context, _: Request) -> Result<Response, ApiError> {
    let requester = context.requester()?;
    let rows = memberships(&*context.api.store, requester.tenant, &requester.user_id).await?;
    let joined = rows.into_iter().filter(|(_, row)| row.membership == "join");
    Ok(Response::new(joined.map(|(room_id, _)| room_id).collect()))
}
