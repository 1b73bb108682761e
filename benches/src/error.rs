//! What can go wrong while loading a server.

use std::num::ParseIntError;

/// Any failure of the load generator or of the server it drives.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server couldn't be reached, or a local file couldn't be read or written.
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
    /// The HTTP exchange broke.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// A request could not be built.
    #[error("request: {0}")]
    Request(#[from] http::Error),
    /// A token doesn't fit a header.
    #[error("header: {0}")]
    Header(#[from] http::header::InvalidHeaderValue),
    /// A body that is not the JSON expected, or too large.
    #[error("unexpected body: {0}")]
    Shape(String),
    /// A status that is not a success.
    #[error("{path}: status {status}: {body}")]
    Status {
        /// The path asked for.
        path: String,
        /// The status answered.
        status: u16,
        /// The beginning of the body answered.
        body: String,
    },
    /// The server's rate limit (429).
    #[error("rate limited, retry after {retry_after_ms} ms")]
    Limited {
        /// Milliseconds the server asks to wait.
        retry_after_ms: u64,
    },
    /// Something that should have come didn't, in the time allowed.
    #[error("timed out: {0}")]
    Late(&'static str),
    /// A wrong argument.
    #[error("argument: {0}")]
    Argument(String),
    /// A number in an argument or in a file of the kernel.
    #[error("number: {0}")]
    Number(#[from] ParseIntError),
    /// A worker task died.
    #[error("task: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The histogram refused a value.
    #[error("histogram: {0}")]
    Histogram(String),
    /// A run ended with failed operations.
    #[error("{0} operations failed")]
    Failed(u64),
}
