//! A request as the endpoints see it that read it themselves: path, query and body, each checked where it is used.

use std::str::FromStr;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::{
    ApiError,
    endpoint::{Context, Whole},
};

/// See the module.
pub(crate) struct Call {
    pub(crate) context: Context,
    params: Vec<String>,
    /// Few: looked through faster than hashed.
    query: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// What an endpoint answers: JSON, written already or not.
pub(crate) enum Answer {
    Value(Value),
    Bytes(Bytes),
    Status(StatusCode, Value),
}

impl Call {
    pub(crate) fn new(context: Context, whole: Whole) -> Self {
        let query = whole.parts.uri.query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
        Self { context, params: whole.params, query, body: whole.body }
    }

    /// A variable of the path.
    pub(crate) fn param(&self, at: usize) -> Result<&str, ApiError> {
        self.params.get(at).map(String::as_str).ok_or_else(|| ApiError::invalid_param("a part of the path is missing"))
    }

    fn id<T: for<'a> TryFrom<&'a str>>(&self, at: usize, what: &str) -> Result<T, ApiError> {
        let text = self.param(at)?;
        T::try_from(text).map_err(|_| ApiError::invalid_param(format!("{text:?} is no {what}")))
    }

    pub(crate) fn room_id(&self, at: usize) -> Result<OwnedRoomId, ApiError> {
        self.id(at, "room id")
    }

    pub(crate) fn user_id(&self, at: usize) -> Result<OwnedUserId, ApiError> {
        self.id(at, "user id")
    }

    pub(crate) fn event_id(&self, at: usize) -> Result<OwnedEventId, ApiError> {
        self.id(at, "event id")
    }

    /// A value of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        // Of several the last one counts.
        self.query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A value of the query that must be of a type, if it is there.
    pub(crate) fn query_as<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| text.parse().map_err(|_| ApiError::invalid_param(format!("{name} is malformed")));
        self.query(name).map(parse).transpose()
    }

    /// The body, which must be a JSON object of a shape. No body at all is an empty one.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let body = if self.body.is_empty() { b"{}" } else { &self.body[..] };
        std::str::from_utf8(body).map_err(|_| ApiError::not_json("the body is not UTF-8"))?;
        // An array would do for serde: the values of the fields, in their order.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(match serde_json::from_slice::<IgnoredAny>(body) {
                Ok(_) => ApiError::bad_json("the body is no object"),
                Err(error) => ApiError::not_json(error.to_string()),
            });
        }
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data if error.to_string().starts_with("missing field") => {
                ApiError::missing_param(error.to_string())
            }
            serde_json::error::Category::Data => ApiError::bad_json(error.to_string()),
            _ => ApiError::not_json(error.to_string()),
        })
    }

    /// The body, which must be a JSON object, as it was sent.
    pub(crate) fn object(&self) -> Result<Vec<u8>, ApiError> {
        let _: serde_json::Map<String, Value> = self.json()?;
        Ok(if self.body.is_empty() { b"{}".to_vec() } else { self.body.to_vec() })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match self {
            Self::Value(value) => (json, value.to_string()).into_response(),
            Self::Bytes(bytes) => (json, bytes).into_response(),
            Self::Status(status, value) => (status, json, value.to_string()).into_response(),
        }
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// Undoes percent-encoding; what isn't UTF-8 then stays as it was.
pub(crate) fn decode(text: &str) -> String {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.to_owned();
    }
    let plus = text.replace('+', " ");
    let (bytes, mut out, mut at) = (plus.as_bytes(), Vec::with_capacity(plus.len()), 0);
    while at < bytes.len() {
        let hex =
            bytes.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or(plus)
}
