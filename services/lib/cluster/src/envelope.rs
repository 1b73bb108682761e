//! A call as it can be made more than once: its head and its message, and until when it may take.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use polity_proto::{Status, route, timeout};
use tokio::time::Instant;
use tonic::body::Body;

/// The largest message that is kept for another try: more than any tier takes.
const MESSAGE_MAX: usize = 16 << 20;

/// See the module.
pub(crate) struct Envelope {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    message: Bytes,
    /// When whoever asked gives up.
    deadline: Option<Instant>,
}

impl Envelope {
    /// Takes a call apart, once its message has arrived.
    pub(crate) async fn open(call: Request<Body>) -> Result<Self, Status> {
        let (parts, body) = call.into_parts();
        let deadline = timeout(&parts.headers).map(|limit| Instant::now() + limit);
        let message = Limited::new(body, MESSAGE_MAX).collect().await;
        let message = message.map_err(|_| Status::out_of_range("a message that can't be read whole"))?.to_bytes();
        Ok(Self { method: parts.method, uri: parts.uri, headers: parts.headers, message, deadline })
    }

    /// From now on the call says that it was handed on.
    pub(crate) fn forward(&mut self) {
        self.headers.insert(route::FORWARDED, HeaderValue::from_static("1"));
    }

    /// The call, as it came.
    pub(crate) fn call_here(&self) -> Request<Body> {
        let mut call = self.call();
        call.headers_mut().remove(route::FORWARDED);
        call
    }

    /// The call, once more, with what is left of its time.
    pub(crate) fn call(&self) -> Request<Body> {
        let mut call = Request::new(Body::new(Full::new(self.message.clone())));
        *call.method_mut() = self.method.clone();
        *call.uri_mut() = self.uri.clone();
        *call.version_mut() = Version::HTTP_2;
        *call.headers_mut() = self.headers.clone();
        if let Some(left) = self.left() {
            route::set_timeout(call.headers_mut(), left);
        }
        call
    }

    /// What comes of `answered`, unless the call's time is over before.
    pub(crate) async fn in_time<T>(&self, answered: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let Some(left) = self.left() else { return answered.await };
        let late = || Status::deadline_exceeded("the call's deadline has passed");
        tokio::time::timeout(left, answered).await.unwrap_or_else(|_| Err(late()))
    }

    /// How long there is; `None`: for ever.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// What the call says in a header.
    pub(crate) fn says(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
