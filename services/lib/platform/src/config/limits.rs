//! How much the HTTP server takes on.

use std::time::Duration;

use super::settings::{Check, Fault, section};

section! {
    /// How much the HTTP server takes on.
    pub struct Limits {
        /// Connections at once. Who comes when there are as many is refused.
        connections: usize = 20_000;
        /// Requests at once, syncs that wait not counted. Who comes when there are as many is told to come again.
        requests: usize = 4_096;
        /// Memory of answers that are larger than 64 KiB (syncs, members and state of a room, pages of history), while they are made and
        /// sent. Whose answer doesn't fit is told to come again.
        answers_bytes: usize = 536_870_912;
        /// The largest body of a request.
        request_body_bytes: usize = 4_194_304;
        /// The largest head of a request: a sync token of a user in hundreds of rooms must fit.
        request_head_bytes: usize = 32_768;
        /// How long a request may take to be answered. Longer than the longest wait of a sync.
        request_timeout_s: u64 = 180;
        /// How long a client may take to send a body, and to read an answer (a large one: and a second for each 16 KiB).
        body_timeout_s: u64 = 30;
        /// How long a new connection may take for its TLS handshake and its first bytes.
        handshake_timeout_s: u64 = 10;
        /// How long a connection may be idle, or take for the head of a request.
        idle_timeout_s: u64 = 75;
    }
}

impl Limits {
    /// See [`Limits::request_timeout_s`].
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }

    /// See [`Limits::body_timeout_s`].
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s)
    }

    /// See [`Limits::handshake_timeout_s`].
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_s)
    }

    /// See [`Limits::idle_timeout_s`].
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }
}

impl Check for Limits {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut at_least = |key, value: u64, least: u64| {
            if value < least {
                faults.push((key, format!("{value} is less than {least}")));
            }
        };
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        at_least("connections", wide(self.connections), 1);
        at_least("requests", wide(self.requests), 1);
        at_least("answers_bytes", wide(self.answers_bytes), 65_536);
        // An event of the largest size must fit.
        at_least("request_body_bytes", wide(self.request_body_bytes), 65_536);
        at_least("request_head_bytes", wide(self.request_head_bytes), 8_192);
        at_least("request_timeout_s", self.request_timeout_s, 1);
        at_least("body_timeout_s", self.body_timeout_s, 1);
        at_least("handshake_timeout_s", self.handshake_timeout_s, 1);
        at_least("idle_timeout_s", self.idle_timeout_s, 1);
        faults
    }
}
