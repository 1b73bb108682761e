//! `GET /sync`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::{sync::Arc, time::Duration};

use axum::routing::MethodFilter;
use polity_sync::{engine::SyncRequest, v3};
use ruma_client_api::filter::FilterDefinition;

use crate::{
    Api, ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
    user,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::Required, "/sync", sync)
}

async fn filter(call: &Call) -> Result<FilterDefinition, ApiError> {
    let Some(text) = call.query("filter").filter(|text| !text.is_empty()) else {
        return Ok(FilterDefinition::default());
    };
    let parse =
        |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|error| ApiError::bad_json(format!("filter: {error}")));
    if text.starts_with('{') {
        return parse(text.as_bytes());
    }
    parse(&user::stored_filter(call, call.context.requester()?, text).await?)
}

async fn sync(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let flag = |name: &str| call.query(name) == Some("true");
    let request = SyncRequest {
        viewer: Api::viewer(&call.context.tenant, requester),
        since: call.query("since").filter(|since| !since.is_empty()).map(str::to_owned),
        filter: Arc::new(filter(&call).await?),
        full_state: flag("full_state"),
        state_after: flag("use_state_after") || flag("org.matrix.msc4222.use_state_after"),
        timeout: Duration::from_millis(call.query_as("timeout")?.unwrap_or(0)),
    };
    let api = Arc::clone(&call.context.api);
    if let Some(scope) = &call.context.scope {
        // A sync that waits is none under way.
        scope.park();
    }
    // While it waits, only what it needs is kept.
    drop(call);
    let answer = Box::pin(api.engine.sync(&request)).await?;
    Ok(Answer::Bytes(v3::encode(&answer)))
}
