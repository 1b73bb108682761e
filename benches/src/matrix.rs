//! The few calls of the client-server API that the scenarios make, each checked for status and shape.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::connection::Connection;
use crate::error::LoadError;
use crate::target::Target;

/// How many users register or join at once.
const PARALLEL: usize = 8;
/// How often a rate-limited preparation is tried again.
const PATIENCE: u32 = 20;
const PASSWORD: &str = "load-generator-password";

/// A registered user with a connection of its own.
#[derive(Debug)]
pub struct User {
    /// The connection.
    pub connection: Connection,
    /// The Matrix id.
    pub id: String,
    auth: HeaderValue,
    transactions: u64,
}

/// What of a sync answer is needed.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// The token to go on from.
    pub next_batch: String,
}

#[derive(Deserialize)]
struct Registered {
    user_id: String,
    access_token: String,
}

#[derive(Deserialize)]
struct RoomId {
    room_id: String,
}

#[derive(Deserialize)]
struct Sent {
    event_id: String,
}

/// A page of history.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// How to go on; absent at the room's beginning.
    pub end: Option<String>,
    /// The events.
    pub chunk: Vec<serde::de::IgnoredAny>,
}

/// Registers `count` users, several at a time.
///
/// # Errors
/// When any registration fails.
pub async fn register_many(target: &Target, count: usize) -> Result<Vec<User>, LoadError> {
    stream::iter(0..count).map(|_| User::register(target)).buffer_unordered(PARALLEL).try_collect().await
}

/// Makes all `users` join the room, several at a time.
///
/// # Errors
/// When any join fails.
pub async fn join_all(users: &mut [User], room: &str) -> Result<(), LoadError> {
    let joins = stream::iter(users.iter_mut()).map(|user| user.join_patiently(room));
    joins.buffer_unordered(PARALLEL).try_collect::<()>().await
}

/// Percent-encodes a value for a query.
#[must_use]
pub fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, LoadError> {
    serde_json::from_slice(body).map_err(|error| LoadError::Shape(format!("{error}: {}", beginning(body))))
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}

fn status_error(path: &str, status: u16, body: &[u8]) -> LoadError {
    if status == 429 {
        let said = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["retry_after_ms"].as_u64());
        return LoadError::Limited { retry_after_ms: said.unwrap_or(500) };
    }
    LoadError::Status { path: path.to_owned(), status, body: beginning(body) }
}

/// Waits out a rate limit while preparing; any other outcome is passed on.
async fn wait_out<T>(outcome: Result<T, LoadError>, tries: u32) -> Result<Option<T>, LoadError> {
    match outcome {
        Err(LoadError::Limited { retry_after_ms }) if tries < PATIENCE => {
            tokio::time::sleep(Duration::from_millis(retry_after_ms.clamp(50, 10_000))).await;
            Ok(None)
        }
        other => other.map(Some),
    }
}

impl User {
    /// Registers a user with a fresh name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn register(target: &Target) -> Result<Self, LoadError> {
        let name = target.fresh_name();
        for tries in 0..=PATIENCE {
            let mut connection = Connection::new(&target.authority)?;
            let outcome = match &target.secret {
                Some(secret) => register_by_secret(&mut connection, &name, secret).await,
                None => register_openly(&mut connection, &name).await,
            };
            if let Some(body) = wait_out(outcome, tries).await? {
                let registered: Registered = parse(&body)?;
                let auth = HeaderValue::from_str(&format!("Bearer {}", registered.access_token))?;
                return Ok(Self { connection, id: registered.user_id, auth, transactions: 0 });
            }
        }
        Err(LoadError::Late("a registration"))
    }

    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, LoadError> {
        let (status, body) = self.connection.request(method, path, Some(&self.auth), body).await?;
        if status.is_success() { Ok(body) } else { Err(status_error(path, status.as_u16(), &body)) }
    }

    /// Creates a public room, waiting out rate limits.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_room(&mut self) -> Result<String, LoadError> {
        for tries in 0..=PATIENCE {
            let body = Bytes::from_static(br#"{"preset":"public_chat"}"#);
            let outcome = self.call(Method::POST, "/_matrix/client/v3/createRoom", body).await;
            if let Some(body) = wait_out(outcome, tries).await? {
                return Ok(parse::<RoomId>(&body)?.room_id);
            }
        }
        Err(LoadError::Late("a room"))
    }

    /// Joins a room, once.
    ///
    /// # Errors
    /// When the server refuses, also for its rate limit.
    pub async fn join(&mut self, room: &str) -> Result<(), LoadError> {
        let path = format!("/_matrix/client/v3/join/{}", encode(room));
        let body = self.call(Method::POST, &path, Bytes::from_static(b"{}")).await?;
        let joined: RoomId = parse(&body)?;
        if joined.room_id == room { Ok(()) } else { Err(LoadError::Shape(format!("joined {}", joined.room_id))) }
    }

    /// Joins a room, waiting out rate limits.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn join_patiently(&mut self, room: &str) -> Result<(), LoadError> {
        for tries in 0..=PATIENCE {
            let outcome = self.join(room).await;
            if wait_out(outcome, tries).await?.is_some() {
                return Ok(());
            }
        }
        Err(LoadError::Late("a join"))
    }

    /// Sends a text message with this body, which must need no escaping in JSON.
    ///
    /// # Errors
    /// When the server refuses, also for its rate limit.
    pub async fn send(&mut self, room: &str, text: &str) -> Result<(), LoadError> {
        self.transactions += 1;
        let room = encode(room);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{}", self.transactions);
        let body = format!(r#"{{"msgtype":"m.text","body":"{text}"}}"#);
        let body = self.call(Method::PUT, &path, Bytes::from(body)).await?;
        let sent: Sent = parse(&body)?;
        if sent.event_id.starts_with('$') { Ok(()) } else { Err(LoadError::Shape(sent.event_id)) }
    }

    /// One sync, with lazily loaded members and short timelines; answers the token and the whole body.
    ///
    /// # Errors
    /// When the server refuses, also for its rate limit.
    pub async fn sync(&mut self, since: Option<&str>, timeout_ms: u64) -> Result<(Batch, Bytes), LoadError> {
        const FILTER: &str = r#"{"room":{"timeline":{"limit":10},"state":{"lazy_load_members":true}}}"#;
        let mut path = format!("/_matrix/client/v3/sync?timeout={timeout_ms}&filter={}", encode(FILTER));
        if let Some(since) = since {
            path.push_str("&since=");
            path.push_str(&encode(since));
        }
        let body = self.call(Method::GET, &path, Bytes::new()).await?;
        Ok((parse(&body)?, body))
    }

    /// A page of 50 messages of a room, backwards.
    ///
    /// # Errors
    /// When the server refuses, also for its rate limit.
    pub async fn page(&mut self, room: &str, from: Option<&str>) -> Result<Page, LoadError> {
        let mut path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=50", encode(room));
        if let Some(from) = from {
            path.push_str("&from=");
            path.push_str(&encode(from));
        }
        let body = self.call(Method::GET, &path, Bytes::new()).await?;
        parse(&body)
    }
}

async fn register_openly(connection: &mut Connection, name: &str) -> Result<Bytes, LoadError> {
    const PATH: &str = "/_matrix/client/v3/register";
    let mut body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
    let (status, answer) = connection.request(Method::POST, PATH, None, Bytes::from(body.to_string())).await?;
    if status.is_success() {
        return Ok(answer);
    }
    if status.as_u16() != 401 {
        return Err(status_error(PATH, status.as_u16(), &answer));
    }
    // The server wants its own session named.
    body["auth"]["session"] = parse::<Value>(&answer)?["session"].clone();
    let (status, answer) = connection.request(Method::POST, PATH, None, Bytes::from(body.to_string())).await?;
    if status.is_success() { Ok(answer) } else { Err(status_error(PATH, status.as_u16(), &answer)) }
}

async fn register_by_secret(connection: &mut Connection, name: &str, secret: &str) -> Result<Bytes, LoadError> {
    const PATH: &str = "/_synapse/admin/v1/register";
    let (status, answer) = connection.request(Method::GET, PATH, None, Bytes::new()).await?;
    if !status.is_success() {
        return Err(status_error(PATH, status.as_u16(), &answer));
    }
    let answer: Value = parse(&answer)?;
    let nonce = answer["nonce"].as_str().ok_or_else(|| LoadError::Shape("no nonce".into()))?;
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map_err(|error| LoadError::Argument(error.to_string()))?;
    mac.update(format!("{nonce}\0{name}\0{PASSWORD}\0notadmin").as_bytes());
    let mac = hex::encode(mac.finalize().into_bytes());
    let body = json!({ "nonce": nonce, "username": name, "password": PASSWORD, "admin": false, "mac": mac });
    let (status, answer) = connection.request(Method::POST, PATH, None, Bytes::from(body.to_string())).await?;
    if status.is_success() { Ok(answer) } else { Err(status_error(PATH, status.as_u16(), &answer)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("!a:b c/ü~"), "%21a%3Ab%20c%2F%C3%BC~");
    }

    #[test]
    fn a_rate_limit_is_told_from_an_error() {
        let limited = status_error("/x", 429, br#"{"retry_after_ms":70}"#);
        assert!(matches!(limited, LoadError::Limited { retry_after_ms: 70 }));
        assert!(matches!(status_error("/x", 429, b"?"), LoadError::Limited { retry_after_ms: 500 }));
        assert!(matches!(status_error("/x", 500, b"{}"), LoadError::Status { status: 500, .. }));
    }
}
