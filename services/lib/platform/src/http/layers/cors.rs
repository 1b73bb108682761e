//! What web browsers need to be told, on every answer.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("X-Requested-With, Content-Type, Authorization");
const ANYBODY: HeaderValue = HeaderValue::from_static("*");
/// Scripts may read when to come again.
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");
/// Seconds for which a browser needn't ask again.
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// Adds the headers.
pub(super) fn allow(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// The answer to OPTIONS, on any path and without any logic.
pub(super) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    allow(response.headers_mut());
    response.headers_mut().insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
    response
}
