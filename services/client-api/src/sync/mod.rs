//! `GET /sync`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::{sync::Arc, time::Duration};

use axum::routing::MethodFilter;
use polity_platform::http::Scope;
use polity_sync::{
    engine::{SyncRequest, Viewer},
    v3,
};
use ruma_client_api::filter::FilterDefinition;

use crate::{
    Api, ApiError,
    call::{Answer, Call},
    endpoint::Token,
    parser_names,
    routes::Routes,
    user,
};

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::Required, "/sync", sync)
}

async fn filter(call: &Call, viewer: &Viewer) -> Result<Arc<FilterDefinition>, ApiError> {
    let Some(text) = call.query("filter").filter(|text| !text.is_empty()) else {
        return Ok(Arc::default());
    };
    if text.starts_with('{') {
        parser_names::check(text.as_bytes())?;
        let parsed = serde_json::from_str(text).map_err(|error| ApiError::bad_json(format!("filter: {error}")))?;
        return Ok(Arc::new(parsed));
    }
    let read = user::stored_filter(call, call.context.requester()?, text);
    call.context.api.engine.stored_filter(viewer, text, read).await
}

async fn sync(call: Call) -> Result<Answer, ApiError> {
    let requester = call.context.requester()?;
    let flag = |name: &str| call.query(name) == Some("true");
    let viewer = Api::viewer(&call.context.tenant, requester);
    let request = SyncRequest {
        filter: filter(&call, &viewer).await?,
        viewer,
        since: call.query("since").filter(|since| !since.is_empty()).map(str::to_owned),
        full_state: flag("full_state"),
        state_after: flag("use_state_after") || flag("org.matrix.msc4222.use_state_after"),
        timeout: Duration::from_millis(call.query_as("timeout")?.unwrap_or(0)),
    };
    let (api, scope) = (Arc::clone(&call.context.api), call.context.scope.clone());
    // While it waits, only what it needs is kept.
    drop(call);
    // A sync that waits is none under way.
    let park = || scope.as_ref().map(Scope::park);
    let answer = Box::pin(api.engine.sync(&request, park)).await?;
    Ok(Answer::Bytes(v3::encode(answer)))
}
