//! How readers know what isn't written by their own process.

use std::sync::Arc;

use super::{Asked, Flush};

/// The other processes that write what this one reads.
#[derive(Clone, Default)]
pub struct Writers(Option<Arc<Flush>>);

impl Writers {
    /// There are none: every write passes through this process, which so knows of all of them.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Those that `flush` asks.
    #[must_use]
    pub fn asked_by(flush: Arc<Flush>) -> Self {
        Self(Some(flush))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether others still hear of what this process writes.
    pub async fn still_ask(&self) -> bool {
        match &self.0 {
            Some(flush) => flush.still_asked().await,
            None => true,
        }
    }

    /// Waits until this process knows of everything that anybody was answered before the call. Free if there are no others.
    pub async fn flush(&self) {
        self.join(Asked::Everybody).await;
    }

    /// As [`Writers::flush`], for a request that reads users' records and nothing else: who writes rooms isn't asked.
    pub async fn flush_users(&self) {
        self.join(Asked::Users).await;
    }

    async fn join(&self, asked: Asked) {
        if let Some(flush) = &self.0 {
            flush.join(asked).await;
        }
    }
}
