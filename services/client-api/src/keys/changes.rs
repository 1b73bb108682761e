//! `GET /keys/changes`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3keyschanges>

use axum::routing::MethodFilter;
use serde_json::json;

use crate::{
    Api, ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Adds this endpoint.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::Required, "/keys/changes", changes)
}

async fn changes(call: Call) -> Result<Answer, ApiError> {
    let token = |name: &str| call.query(name).ok_or_else(|| ApiError::missing_param(format!("{name} is missing")));
    let (from, to) = (token("from")?.to_owned(), token("to")?);
    let viewer = Api::viewer(&call.context.tenant, call.context.requester()?);
    let found = Box::pin(call.context.api.engine.key_changes(viewer, from, to)).await?;
    Ok(json!({"changed": found.changed, "left": found.left}).into())
}
