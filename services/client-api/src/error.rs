//! The one place where a failure becomes a Matrix error: status, `errcode`, message.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use polity_core::{Classified, ErrorKind};
use polity_platform::http::Errcode;
use serde_json::{Map, Value, json};

/// What a client is told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{errcode}: {message}")]
pub struct ApiError {
    status: StatusCode,
    errcode: &'static str,
    message: String,
    retry_after: Option<Duration>,
    extra: Map<String, Value>,
}

// === impl ApiError ===

impl ApiError {
    /// An error of this status and `errcode`.
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<String>) -> Self {
        Self { status, errcode, message: message.into(), retry_after: None, extra: Map::new() }
    }

    /// 404 `M_UNRECOGNIZED`: not built.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "there is no such endpoint on this server")
    }

    /// 405 `M_UNRECOGNIZED`.
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "the endpoint has no such method")
    }

    /// 400 `M_BAD_JSON`: JSON, but not what it should be.
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`.
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "an access token is needed")
    }

    /// 401 `M_UNKNOWN_TOKEN`; `soft_logout` when the client should refresh it.
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "the access token is unknown or has expired")
            .with("soft_logout", json!(soft_logout))
    }

    /// 429 `M_LIMIT_EXCEEDED`.
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests");
        error.retry_after = Some(retry_after);
        error
    }

    /// Whether the requester may not do or see that.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// Its `errcode`.
    pub(crate) fn errcode(&self) -> &'static str {
        self.errcode
    }

    /// The same error with one more field in its body.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.extra.insert(field.to_owned(), value);
        self
    }

    /// The same error, to be tried again after a while.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The error of a failure that has no errcode of its own.
    pub fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (status, errcode) = match kind {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN"),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            ErrorKind::Conflict => (StatusCode::CONFLICT, "M_UNKNOWN"),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            ErrorKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "M_LIMIT_EXCEEDED"),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            ErrorKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN"),
            ErrorKind::Unsupported => return Self::unrecognized(),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN"),
        };
        let retry_after = kind.is_transient().then_some(Duration::from_secs(1));
        Self::new(status, errcode, message).retry_after(retry_after)
    }

    /// The error of a failure of ours, by its kind. What is internal is logged, not told.
    pub fn from_classified(error: &impl Classified) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Internal {
            tracing::error!(%error, "internal error");
        }
        Self::of_kind(kind, for_clients(kind, error.to_string()))
    }
}

/// What clients are told of a failure: where our parts are and why they don't answer is nobody else's business.
fn for_clients(kind: ErrorKind, message: String) -> String {
    match kind {
        ErrorKind::Internal => "internal error".to_owned(),
        ErrorKind::Unavailable => {
            tracing::debug!(reason = %message, "a request is refused for want of a part of the server");
            "a part of the server can't be reached; try again".to_owned()
        }
        _ => message,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = self.extra;
        body.insert("errcode".to_owned(), Value::from(self.errcode));
        body.insert("error".to_owned(), Value::from(self.message));
        let wait = self.retry_after;
        if let Some(wait) = wait {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            body.insert("retry_after_ms".to_owned(), Value::from(ms));
        }
        let mut response = (self.status, axum::Json(Value::Object(body))).into_response();
        if let Some(wait) = wait {
            // Whole seconds, rounded up: who comes earlier is refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response.extensions_mut().insert(Errcode(self.errcode));
        response
    }
}

impl From<polity_accounts::Error> for ApiError {
    fn from(error: polity_accounts::Error) -> Self {
        use polity_accounts::Error as E;
        match &error {
            E::UserInUse => Self::new(StatusCode::BAD_REQUEST, "M_USER_IN_USE", error.to_string()),
            E::WrongPassword => Self::forbidden(error.to_string()),
            E::UnknownToken(soft_logout) => Self::unknown_token(*soft_logout),
            E::Deactivated => Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", error.to_string()),
            E::WeakPassword => Self::new(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", error.to_string()),
            E::KeyExists(_) | E::Invalid(_) => Self::invalid_param(error.to_string()),
            E::InvalidSignature(_) => Self::new(StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE", error.to_string()),
            E::NoMasterKey => Self::missing_param(error.to_string()),
            _ => Self::from_classified(&error),
        }
    }
}

impl From<polity_sync::engine::SyncError> for ApiError {
    fn from(error: polity_sync::engine::SyncError) -> Self {
        Self::from_classified(&error)
    }
}

impl From<polity_sync::read::ReadError> for ApiError {
    fn from(error: polity_sync::read::ReadError) -> Self {
        Self::from_classified(&error)
    }
}

impl From<polity_store::StoreError> for ApiError {
    fn from(error: polity_store::StoreError) -> Self {
        Self::from_classified(&error)
    }
}

impl From<polity_proto::Status> for ApiError {
    fn from(status: polity_proto::Status) -> Self {
        polity_proto::Detail::from(&status).into()
    }
}

impl From<polity_proto::Detail> for ApiError {
    fn from(detail: polity_proto::Detail) -> Self {
        use polity_proto::Reason as R;
        let message = for_clients(detail.kind, detail.message);
        let mut error = Self::of_kind(detail.kind, message).retry_after(detail.retry_after);
        let (status, errcode) = match detail.reason {
            R::Unspecified => return error,
            R::Forbidden => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            R::NotFound => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            R::BadJson => (StatusCode::BAD_REQUEST, "M_BAD_JSON"),
            R::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            R::InvalidParam => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            R::UnsupportedRoomVersion => (StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION"),
            R::RoomInUse => (StatusCode::BAD_REQUEST, "M_ROOM_IN_USE"),
            R::InvalidRoomState => (StatusCode::BAD_REQUEST, "M_INVALID_ROOM_STATE"),
            R::BadState => (StatusCode::BAD_REQUEST, "M_BAD_STATE"),
            R::BadAlias => (StatusCode::BAD_REQUEST, "M_BAD_ALIAS"),
            R::UnableToAuthoriseJoin => (StatusCode::BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN"),
            R::UnableToGrantJoin => (StatusCode::BAD_REQUEST, "M_UNABLE_TO_GRANT_JOIN"),
        };
        (error.status, error.errcode) = (status, errcode);
        error
    }
}
