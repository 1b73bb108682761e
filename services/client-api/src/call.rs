//! A request as the endpoints see it that read it themselves: path, query and body, each checked where it is used.

use std::{borrow::Cow, str::FromStr};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use smallvec::SmallVec;

use crate::{
    ApiError,
    endpoint::{Context, Whole},
};

/// Headers of an answer, with those that the layers around and the connection add.
const HEADERS: usize = 8;

/// See the module.
pub(crate) struct Call {
    pub(crate) context: Context,
    params: Vec<String>,
    query: Query,
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
        let query = Query::new(whole.parts.uri.query().unwrap_or_default());
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
        self.query.get(name)
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

/// The names and values of a query, decoded.
#[derive(Default)]
struct Query {
    /// All of them, one after the other.
    text: String,
    /// Where a name ends and where its value does. Few: looked through faster than hashed.
    ends: SmallVec<[(usize, usize); 6]>,
}

impl Query {
    fn new(query: &str) -> Self {
        let mut read = Self { text: String::with_capacity(query.len()), ends: SmallVec::new() };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            read.text.push_str(&decode(name));
            let name = read.text.len();
            read.text.push_str(&decode(value));
            read.ends.push((name, read.text.len()));
        }
        read
    }

    /// The value of a name: of several the last one counts.
    fn get(&self, name: &str) -> Option<&str> {
        let begins = [0].into_iter().chain(self.ends.iter().map(|(_, end)| *end));
        let pairs =
            begins.zip(&self.ends).map(|(begin, (name, value))| (&self.text[begin..*name], &self.text[*name..*value]));
        pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).last()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Value(value) => (StatusCode::OK, value.to_string().into()),
            Self::Bytes(bytes) => (StatusCode::OK, bytes),
            Self::Status(status, value) => (status, value.to_string().into()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        // With room for those that every answer has.
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.headers_mut() = headers;
        response
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// Undoes percent-encoding; what isn't UTF-8 then stays as it was.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.into();
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
    String::from_utf8(out).unwrap_or(plus).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_its_last_value_counts() {
        let query = Query::new("a=1&b=%7B%22x%22:+1%7D&a=2&empty=&alone&=nameless&%61%3d=3&bad=%ff%");
        let expected = [
            ("a", Some("2")),
            ("b", Some("{\"x\": 1}")),
            ("empty", Some("")),
            ("alone", None),
            ("", Some("nameless")),
            ("a=", Some("3")),
            ("bad", Some("%ff%")),
            ("c", None),
        ];
        for (name, value) in expected {
            assert_eq!(query.get(name), value, "{name}");
        }
        assert_eq!(Query::new("").get(""), None);
    }
}
