//! `GET /.well-known/matrix/client`: where clients find this server.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient>

use ruma_client_api::discovery::discover_homeserver::{HomeserverInfo, Request, Response};

use crate::{ApiError, endpoint::Context};

pub(crate) async fn client(context: Context, _request: Request) -> Result<Response, ApiError> {
    Ok(Response::new(HomeserverInfo::new(context.tenant.public_baseurl.clone())))
}
