//! What waits to be written, in the order in which it came.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use polity_store::StoreError;

use crate::{metric, request::Request};

/// Writes that may wait, and their bytes; more are refused at once.
const WRITES: usize = 4096;
const BYTES: usize = 64 * 1024 * 1024;
/// Writes that may wait for the next one to take them along.
const AHEAD: usize = 64;

/// See the module. Whoever writes and whoever hands over need one lock, for moments only.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something is due, or nothing comes any more.
    due: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    /// How many of the last ones wait for the next one.
    ahead: usize,
    /// Nothing more is taken.
    closed: bool,
}

impl Queue {
    /// Hands a write over: it is made after those that were handed over before it, or with them.
    pub(crate) fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        waiting.push(request)?;
        waiting.ahead = 0;
        self.due.notify_one();
        Ok(())
    }

    /// Hands a write over that nobody waits for: it is made with the next one, or when there are many such.
    pub(crate) fn push_ahead(&self, request: Request) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        waiting.push(request)?;
        waiting.ahead += 1;
        if waiting.ahead >= AHEAD {
            waiting.ahead = 0;
            self.due.notify_one();
        }
        Ok(())
    }

    /// Whether nothing waits: what was handed over before was taken by whoever had the turn.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().requests.is_empty()
    }

    /// Waits until something is due; says whether anything is, or ever will be.
    pub(crate) fn wait(&self) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.requests.len() > waiting.ahead {
                return true;
            }
            if waiting.closed {
                return !waiting.requests.is_empty();
            }
            self.due.wait(&mut waiting);
        }
    }

    /// The next write, due or not: it goes with those that are.
    pub(crate) fn pop(&self) -> Option<Request> {
        let mut waiting = self.waiting.lock();
        let request = waiting.requests.pop_front()?;
        waiting.bytes -= request.bytes();
        waiting.ahead = waiting.ahead.min(waiting.requests.len());
        Some(request)
    }

    /// Takes nothing more. What waits is still to be written.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.due.notify_one();
    }

    /// Takes nothing more, and drops what waits.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        (waiting.bytes, waiting.ahead) = (0, 0);
        let dropped = std::mem::take(&mut waiting.requests);
        drop(waiting);
        metrics::gauge!(metric::QUEUE).decrement(f64::from(u32::try_from(dropped.len()).unwrap_or(u32::MAX)));
    }
}

impl Waiting {
    fn push(&mut self, request: Request) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Unavailable("the store's writer has ended".to_owned()));
        }
        if self.requests.len() >= WRITES || self.bytes > BYTES {
            return Err(StoreError::Unavailable("too many writes are waiting".to_owned()));
        }
        self.bytes += request.bytes();
        self.requests.push_back(request);
        metrics::gauge!(metric::QUEUE).increment(1.0);
        Ok(())
    }
}
