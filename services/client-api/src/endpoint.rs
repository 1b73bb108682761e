//! How an endpoint is wired: ruma's typed request in, its typed response out, and between them a plain async function.
//!
//! The paths, the method and the kind of authentication come from ruma's description of the endpoint, so that every old
//! and unstable spelling of a path is served without being written down here.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{FromRequestParts, RawPathParams, Request},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use polity_core::mutation::{Mutation, planted};
use polity_platform::http::{ClientAddress, Scope};
use ruma_common::api::{
    IncomingRequest, IncomingRequestExt, OutgoingResponse, OutgoingResponseExt,
    auth_scheme::{AccessToken, AccessTokenOptional, NoAccessToken, NoAuthentication},
    error::FromHttpRequestError,
    path_builder::PathBuilder,
};

use crate::{Api, ApiError, Tenant, auth::Requester, parser_names};

/// A call of another tier takes no longer, however long the request might.
pub(crate) const CALL: Duration = Duration::from_secs(60);
/// Bytes of a variable of a path: as many as the spec allows names in events and identifiers.
const PARAM_MAX: usize = 255;

/// Whether an endpoint wants an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// None is looked at.
    None,
    /// One that is there must be good.
    Optional,
    /// Refused without.
    Required,
    /// As `Required`, on an endpoint that reads nothing here but users' records (who decides on a message reads the room itself).
    RequiredAlone,
}

/// What ruma's kinds of authentication mean here.
pub(crate) trait TokenNeed {
    /// See [`Token`].
    const NEED: Token;
}

impl TokenNeed for NoAuthentication {
    const NEED: Token = Token::None;
}
impl TokenNeed for NoAccessToken {
    const NEED: Token = Token::None;
}
impl TokenNeed for AccessTokenOptional {
    const NEED: Token = Token::Optional;
}
impl TokenNeed for AccessToken {
    const NEED: Token = Token::Required;
}

/// What an endpoint knows besides its request.
pub(crate) struct Context {
    /// The service.
    pub api: Arc<Api>,
    /// Whose server is asked.
    pub tenant: Arc<Tenant>,
    /// Who asks, where a token was given and looked at.
    pub requester: Option<Requester>,
    /// Where the request came from.
    pub client: ClientAddress,
    /// What the endpoint asked for, and so how much is known of what other processes have written.
    pub token: Token,
    /// The request, for its log line and its place among those under way.
    pub scope: Option<Scope>,
}

impl Context {
    /// Who asks, on an endpoint that requires a token.
    pub(crate) fn requester(&self) -> Result<&Requester, ApiError> {
        self.requester.as_ref().ok_or_else(ApiError::missing_token)
    }

    /// How long a call of another tier may take.
    pub(crate) fn within(&self) -> Duration {
        self.scope.as_ref().map_or(CALL, Scope::remaining).min(CALL)
    }
}

/// Adds an endpoint to the router, under all of its paths.
pub(crate) fn add<R, F, Fut>(router: Router<Arc<Api>>, handler: F) -> Router<Arc<Api>>
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: TokenNeed,
    R::PathBuilder: PathBuilder,
    R::OutgoingResponse: OutgoingResponse + Send,
    F: Fn(Context, R) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R::OutgoingResponse, ApiError>> + Send + 'static,
{
    let method = MethodFilter::try_from(R::METHOD).unwrap_or(MethodFilter::GET);
    R::PATH_BUILDER.all_paths().fold(router, |router, path| {
        let handler = handler.clone();
        let route: MethodRouter<Arc<Api>, Infallible> =
            on(method, move |axum::extract::State(api): axum::extract::State<Arc<Api>>, request: Request| {
                let handler = handler.clone();
                async move { answer::<R, F, Fut>(api, handler, request).await.unwrap_or_else(IntoResponse::into_response) }
            });
        router.route(path, route)
    })
}

async fn answer<R, F, Fut>(api: Arc<Api>, handler: F, request: Request) -> Result<Response, ApiError>
where
    R: IncomingRequest,
    R::Authentication: TokenNeed,
    R::OutgoingResponse: OutgoingResponse,
    F: Fn(Context, R) -> Fut,
    Fut: Future<Output = Result<R::OutgoingResponse, ApiError>>,
{
    let (context, request) = take_apart(api, request, R::Authentication::NEED).await?;
    let typed = {
        let Whole { parts, body, params } = request;
        // No body at all is an empty object: many clients join by such a request.
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        R::try_from_http_request(http::Request::from_parts(parts, &body[..]), &params).map_err(malformed)?
    };
    let api = Arc::clone(&context.api);
    let response = handler(context, typed).await?;
    if R::METHOD != http::Method::GET {
        still_asked(&api).await?;
    }
    into_http(response)
}

/// What was written is answered only by a process of which others hear that it was. (It may have been stopped for long, and closed.)
pub(crate) async fn still_asked(api: &Api) -> Result<(), ApiError> {
    let closed = || ApiError::of_kind(polity_core::ErrorKind::Unavailable, "this server is ending: ask again");
    api.engine.writers.still_ask().await.then_some(()).ok_or_else(closed)
}

/// A request whose body is at hand.
pub(crate) struct Whole {
    /// Its head.
    pub parts: http::request::Parts,
    /// Its body.
    pub body: Bytes,
    /// The values of the path's variables, in order, decoded.
    pub params: Vec<String>,
}

/// Finds the tenant, the requester and the path's variables, and reads the body, within its limit.
pub(crate) async fn take_apart(api: Arc<Api>, request: Request, need: Token) -> Result<(Context, Whole), ApiError> {
    let (mut parts, body) = request.into_parts();
    let tenant = api.tenants.of_request(&parts)?;
    // First of all: whatever anybody was told before is seen by this request, a logout, too.
    match need {
        Token::None => {}
        // A flush that went before would tell of whatever moved: what is known of rooms would be right by that alone.
        Token::Required if planted(Mutation::AccessByMap) && !parts.uri.path().ends_with("/sync") => {}
        Token::Optional | Token::Required => api.engine.writers.flush().await,
        Token::RequiredAlone => api.engine.writers.flush_users().await,
    }
    let requester = match need {
        Token::None => None,
        Token::Optional => crate::auth::optional(&api, &tenant, &parts).await?,
        Token::Required | Token::RequiredAlone => Some(crate::auth::required(&api, &tenant, &parts).await?),
    };
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| ApiError::invalid_param("the path is not UTF-8"))?
        .iter()
        .map(|(_, value)| short(value))
        .collect::<Result<_, _>>()?;
    let scope = parts.extensions.get::<Scope>().cloned();
    if let Some(scope) = &scope {
        scope.set_tenant(tenant.server_name.as_str());
        if let Some(requester) = &requester {
            scope.set_user(requester.user_id.as_str());
        }
    }
    let client = parts.extensions.get::<ClientAddress>().copied().unwrap_or_default();
    let body = read(body, api.max_body_bytes).await?;
    let context = Context { api, tenant, requester, client, token: need, scope };
    Ok((context, Whole { parts, body, params }))
}

/// A variable of the path, which may become part of a key.
fn short(value: &str) -> Result<String, ApiError> {
    if value.len() > PARAM_MAX {
        let message = format!("a part of the path has more than {PARAM_MAX} bytes");
        return Err(ApiError::new(http::StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message));
    }
    Ok(value.to_owned())
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            parser_names::check(&body)?;
            Ok(body)
        }
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(http::StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "the body is too large"))
        }
        Err(_) => Err(ApiError::not_json("the body could not be read")),
    }
}

/// What a request that ruma can't read is told.
fn malformed(error: FromHttpRequestError) -> ApiError {
    use ruma_common::api::error::DeserializationError as D;
    let FromHttpRequestError::Deserialization(error) = error else { return ApiError::wrong_method() };
    match error {
        D::Utf8(_) => ApiError::not_json("the body is not UTF-8"),
        D::Json(error) if error.is_syntax() || error.is_eof() => ApiError::not_json(error.to_string()),
        D::Json(error) if error.to_string().starts_with("missing field") => ApiError::missing_param(error.to_string()),
        D::Json(error) => ApiError::bad_json(error.to_string()),
        D::Query(error) if error.to_string().starts_with("missing field") => ApiError::missing_param(error.to_string()),
        other => ApiError::invalid_param(other.to_string()),
    }
}

/// A typed response as HTTP.
pub(crate) fn into_http(response: impl OutgoingResponse) -> Result<Response, ApiError> {
    let response = response.try_into_http_response::<Vec<u8>>().map_err(|error| {
        tracing::error!(%error, "an answer can't be encoded");
        ApiError::of_kind(polity_core::ErrorKind::Internal, "internal error")
    })?;
    Ok(response.map(Body::from))
}
