//! The routes of the client-server API.

use std::{future::Future, sync::Arc};

use axum::Router;
use ruma_common::api::{IncomingRequest, OutgoingResponse};

use crate::{
    Api, ApiError,
    endpoint::{self, Context, TokenNeed},
};

/// Routes under construction.
pub(crate) struct Routes(Router<Arc<Api>>);

impl Routes {
    /// Adds an endpoint: its paths and method come from its request type.
    pub(crate) fn add<R, F, Fut>(self, handler: F) -> Self
    where
        R: IncomingRequest + Send + 'static,
        R::Authentication: TokenNeed,
        R::OutgoingResponse: OutgoingResponse + Send,
        F: Fn(Context, R) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R::OutgoingResponse, ApiError>> + Send + 'static,
    {
        Self(endpoint::add(self.0, handler))
    }

    /// Adds a route that ruma can't describe, or that writes its answer itself.
    pub(crate) fn raw(self, path: &str, route: axum::routing::MethodRouter<Arc<Api>>) -> Self {
        Self(self.0.route(path, route))
    }
}

/// All of them. What isn't built answers `M_UNRECOGNIZED`.
pub fn router(api: Arc<Api>) -> Router {
    let routes = crate::discovery::routes(Routes(Router::new()));
    routes
        .0
        .fallback(|| async { ApiError::unrecognized() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(api)
}
