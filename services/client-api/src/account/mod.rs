//! Accounts: registration, password, who one is.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management>

mod credentials;
mod register;
mod shared_secret;

use axum::routing::MethodFilter;
use serde_json::json;

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = credentials::routes(register::routes(shared_secret::routes(routes)));
    routes.json(MethodFilter::GET, Token::Required, "/account/whoami", whoami)
}

async fn whoami(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    Ok(json!({"user_id": requester.user_id, "device_id": requester.device_id, "is_guest": false}).into())
}
