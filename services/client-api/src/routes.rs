//! The routes of the client-server API.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    routing::{MethodFilter, on},
};
use ruma_common::api::{IncomingRequest, OutgoingResponse};

use crate::{
    Api, ApiError,
    call::{Answer, Call},
    endpoint::{self, Context, Token, TokenNeed},
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

    /// Adds an endpoint that reads its request itself, below `/_matrix/client/v3` and `/r0`, or (beginning with `/_`) anywhere.
    pub(crate) fn json<F, Fut>(mut self, method: MethodFilter, token: Token, path: &str, handler: F) -> Self
    where
        F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let paths = if path.starts_with("/_") {
            vec![path.to_owned()]
        } else {
            vec![format!("/_matrix/client/v3{path}"), format!("/_matrix/client/r0{path}")]
        };
        for path in paths {
            let handler = handler.clone();
            let route = on(method, move |State(api): State<Arc<Api>>, request: Request| {
                let handler = handler.clone();
                async move {
                    let (context, whole) = endpoint::take_apart(Arc::clone(&api), request, token).await?;
                    let answer = handler(Call::new(context, whole)).await?;
                    if method != MethodFilter::GET {
                        endpoint::still_asked(&api).await?;
                    }
                    Ok::<_, ApiError>(answer)
                }
            });
            self.0 = self.0.route(&path, route);
        }
        self
    }
}

/// All of them. What isn't built answers `M_UNRECOGNIZED`.
pub fn router(api: Arc<Api>) -> Router {
    let routes = crate::discovery::routes(Routes(Router::new()));
    let routes = crate::session::routes(routes);
    let routes = crate::account::routes(routes);
    let routes = crate::user::routes(routes);
    let routes = crate::room::routes(routes);
    let routes = crate::directory::routes(routes);
    let routes = crate::keys::routes(routes);
    let routes = crate::sync::routes(routes);
    routes
        .0
        .fallback(|| async { ApiError::unrecognized() })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .with_state(api)
}
