//! A connection without manners: it sends any bytes, and reads whatever comes.

use std::{io, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer takes no longer.
const TIMEOUT: Duration = Duration::from_secs(40);

/// A connection.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A whole answer of HTTP/1.1.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The `errcode` of its body, if there is one.
    #[must_use]
    pub fn errcode(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body["errcode"].as_str().map(str::to_owned)
    }
}

impl Raw {
    /// Connects to an address and port.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The next answer; `None` when the server closes before any of it has come.
    ///
    /// # Errors
    /// When the answer ends early or makes no sense, or none comes in time.
    pub async fn answer(&mut self) -> io::Result<Option<Answer>> {
        let answer = tokio::time::timeout(TIMEOUT, self.next_answer()).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn next_answer(&mut self) -> io::Result<Option<Answer>> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) if self.read.is_empty() => return Ok(None),
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // The server closed with some of what was sent unread.
                Err(error) if self.read.is_empty() && error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        };
        let head = String::from_utf8_lossy(&self.read[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
        let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.read.len() < head_end + length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.read.split_off(head_end + length);
        let body = std::mem::replace(&mut self.read, rest).split_off(head_end);
        Ok(Some(Answer { status, head, body }))
    }

    /// Whether the server closes within this time; what it says before is dropped.
    pub async fn closes(&mut self, within: Duration) -> bool {
        let to_the_end = async { while matches!(self.more().await, Ok(true)) {} };
        tokio::time::timeout(within, to_the_end).await.is_ok()
    }

    async fn more(&mut self) -> io::Result<bool> {
        let mut part = [0; 1024];
        let count = self.stream.read(&mut part).await?;
        self.read.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }
}
