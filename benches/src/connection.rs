//! One HTTP/1.1 keep-alive connection: what one virtual client has.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::LoadError;

/// The largest answer read, in bytes.
const BODY_LIMIT: usize = 256 << 20;

/// A connection to one server; reconnects by itself when the server has closed it.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    host: HeaderValue,
    sender: Option<SendRequest<Full<Bytes>>>,
    driver: JoinSet<()>,
}

impl Connection {
    /// A connection to `authority` (`host:port`), opened at the first request.
    ///
    /// # Errors
    /// When the authority doesn't fit a header.
    pub fn new(authority: &str) -> Result<Self, LoadError> {
        let host = HeaderValue::from_str(authority)?;
        Ok(Self { authority: authority.to_owned(), host, sender: None, driver: JoinSet::new() })
    }

    /// Closes the connection; the next request opens another.
    pub fn close(&mut self) {
        self.sender = None;
        self.driver = JoinSet::new();
    }

    /// Opens the connection unless it is open.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn open(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, LoadError> {
        let usable = match self.sender.as_mut() {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.close();
            let stream = TcpStream::connect(&self.authority).await?;
            stream.set_nodelay(true)?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            self.driver.spawn(async move {
                // A broken connection shows itself at the sender, where it is counted.
                drop(driver.await);
            });
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or(LoadError::Late("a connection"))
    }

    /// One request; answers its status and whole body.
    ///
    /// # Errors
    /// When the exchange breaks or the answer is larger than the limit.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        auth: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), LoadError> {
        let mut builder = Request::builder().method(method).uri(path).header(HOST, self.host.clone());
        if let Some(auth) = auth {
            builder = builder.header(AUTHORIZATION, auth.clone());
        }
        if !body.is_empty() {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = builder.body(Full::new(body))?;
        let response = self.open().await?.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| LoadError::Shape(error.to_string()))?.to_bytes();
        Ok((status, body))
    }
}
