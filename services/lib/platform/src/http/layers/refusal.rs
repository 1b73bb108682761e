//! The answers that the layers give themselves.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};

use super::Errcode;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SOON: HeaderValue = HeaderValue::from_static("1");

fn refusal(status: StatusCode, errcode: &'static str, body: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.extensions_mut().insert(Errcode(errcode));
    response
}

pub(super) fn too_large() -> Response {
    let body = r#"{"errcode":"M_TOO_LARGE","error":"the body is too large"}"#;
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", body)
}

pub(super) fn too_slow() -> Response {
    let body = r#"{"errcode":"M_UNKNOWN","error":"the body took too long"}"#;
    refusal(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", body)
}

pub(super) fn out_of_time() -> Response {
    let body = r#"{"errcode":"M_UNKNOWN","error":"the request took too long"}"#;
    refusal(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", body)
}

pub(super) fn defect() -> Response {
    let body = r#"{"errcode":"M_UNKNOWN","error":"internal error"}"#;
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", body)
}

pub(super) fn overloaded() -> Response {
    let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"the server is busy","retry_after_ms":1000}"#;
    let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", body);
    response.headers_mut().insert(header::RETRY_AFTER, SOON);
    response
}
