//! A client of the client-server API without opinions: it sends what it is told and gives back what it gets.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::{Value, json};

/// No answer to wait for takes longer.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Why there is no good answer.
#[derive(Debug)]
pub enum Failure {
    /// No answer at all: the effect is unknown.
    Lost(String),
    /// An answer that isn't 200.
    Refused(StatusCode, Value),
}

/// The way of requests to a server, and of answers back.
#[async_trait]
pub trait Way: Send + Sync {
    /// Makes a request.
    ///
    /// # Errors
    /// Without an answer: why there is none.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String>;

    /// The same way without anything that it remembers, connections above all.
    fn afresh(&self) -> Arc<dyn Way>;
}

/// Plain HTTP, with connections that are kept.
struct Http(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>);

/// A client, logged in or not.
#[derive(Clone)]
pub struct Client {
    way: Arc<dyn Way>,
    base: String,
    host: Option<String>,
    /// The access token.
    pub token: Option<String>,
    /// The user id, once logged in.
    pub user_id: String,
    /// The device id, once logged in.
    pub device_id: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::Refused(status, body) => write!(f, "{status}: {body}"),
        }
    }
}

impl Failure {
    /// The `errcode` of the answer, if there was one.
    #[must_use]
    pub fn errcode(&self) -> Option<&str> {
        if let Self::Refused(_, body) = self { body["errcode"].as_str() } else { None }
    }
}

impl Http {
    fn way() -> Arc<dyn Way> {
        Arc::new(Self(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http()))
    }
}

#[async_trait]
impl Way for Http {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let exchange = async {
            let answer = self.0.request(request.map(Full::new)).await.map_err(|error| error.to_string())?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|error| error.to_string())?
    }

    fn afresh(&self) -> Arc<dyn Way> {
        Self::way()
    }
}

impl Client {
    /// A client of the server at `base` (`http://127.0.0.1:8008`).
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self::over(Http::way(), base)
    }

    /// A client whose requests go another way; their targets begin with `base`.
    #[must_use]
    pub fn over(way: Arc<dyn Way>, base: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { way, base, host: None, token: None, user_id: String::new(), device_id: String::new() }
    }

    /// Somebody else, who isn't logged in, at the same server.
    #[must_use]
    pub fn stranger(&self) -> Self {
        let host = self.host.clone();
        Self { host, ..Self::over(self.way.afresh(), &self.base) }
    }

    /// The same client, asking for another tenant by its `Host`.
    #[must_use]
    pub fn for_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The same client as a new process has it: without connections.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self { way: self.way.afresh(), ..self.clone() }
    }

    /// The same client, whose requests go this way.
    #[must_use]
    pub fn by(&self, way: Arc<dyn Way>) -> Self {
        Self { way, ..self.clone() }
    }

    /// A request below `/_matrix/client/v3`, or of a whole path.
    ///
    /// # Errors
    /// Without an answer, and for any answer but 200.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let (status, answer) = self.raw(method, path, body.map(|body| body.to_string().into())).await?;
        let value = serde_json::from_slice(&answer)
            .map_err(|error| Failure::Lost(format!("{status} and no JSON ({error}): {answer:?}")))?;
        if status == StatusCode::OK { Ok(value) } else { Err(Failure::Refused(status, value)) }
    }

    /// A request with any body; any answer is an answer.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn raw(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
        let answer = self.exchange(method, path, body).await?;
        Ok((answer.status(), answer.into_body()))
    }

    /// The same, with the answer's head.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn exchange(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Response<Bytes>, Failure> {
        let whole = ["/_", "/.", "/health", "/metrics"].iter().any(|start| path.starts_with(start));
        let prefix = if whole { "" } else { "/_matrix/client/v3" };
        let mut request = Request::builder().method(method).uri(format!("{}{prefix}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(host) = &self.host {
            request = request.header(header::HOST, host);
        }
        let request = request.body(body.unwrap_or_default()).map_err(|error| Failure::Lost(error.to_string()))?;
        self.way.exchange(request).await.map_err(Failure::Lost)
    }

    /// Registers an account and logs in.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn register(&mut self, username: &str, password: &str) -> Result<(), Failure> {
        let mut body = json!({"username": username, "password": password});
        let answer = match self.call(Method::POST, "/register", Some(body.clone())).await {
            Err(Failure::Refused(StatusCode::UNAUTHORIZED, challenge)) => {
                body["auth"] = json!({"type": "m.login.dummy", "session": challenge["session"]});
                self.call(Method::POST, "/register", Some(body)).await?
            }
            other => other?,
        };
        self.logged_in(&answer);
        Ok(())
    }

    /// Logs in with a password.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn login(&mut self, username: &str, password: &str) -> Result<(), Failure> {
        let identifier = json!({"type": "m.id.user", "user": username});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": password});
        let answer = self.call(Method::POST, "/login", Some(body)).await?;
        self.logged_in(&answer);
        Ok(())
    }

    /// Sends a text; the event id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send(&self, room_id: &str, txn: &str, text: &str) -> Result<String, Failure> {
        let path = format!("/rooms/{}/send/m.room.message/{txn}", escape(room_id));
        let answer = self.call(Method::PUT, &path, Some(json!({"msgtype": "m.text", "body": text}))).await?;
        Ok(text_of(&answer, "event_id"))
    }

    /// Makes a room; its id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn create_room(&self, body: Value) -> Result<String, Failure> {
        let answer = self.call(Method::POST, "/createRoom", Some(body)).await?;
        Ok(text_of(&answer, "room_id"))
    }

    /// One sync.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn sync(&self, since: Option<&str>, timeout_ms: u64, filter: &Value) -> Result<Value, Failure> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/sync?timeout={timeout_ms}&filter={}{since}", escape(&filter.to_string()));
        self.call(Method::GET, &path, None).await
    }

    fn logged_in(&mut self, answer: &Value) {
        self.token = Some(text_of(answer, "access_token"));
        self.user_id = text_of(answer, "user_id");
        self.device_id = text_of(answer, "device_id");
    }
}

fn text_of(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_default().to_owned()
}

/// Percent-encodes whatever isn't plain in a path segment or a query value.
#[must_use]
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
