//! Who writes, and when. One thread takes whatever waits, checks conditions in order, and lets the whole group share a commit and its
//! sync. What needs no sync is written by whoever brings it, in a turn of his own, while nobody else writes or waits: two threads
//! needn't wake each other for it. In memory nothing needs a sync, and there is no thread.
//!
//! A turn sees all turns before it, and everything that was handed over before it began is written in it or was before. The
//! engine keeps all writes in one order, so that a sync covers what was written without one before it.

use std::{sync::Arc, thread};

use polity_store::{Durability, StoreError};

use crate::{
    engine::Engine,
    group::Group,
    queue::Queue,
    request::{PlainWrite, Request},
    turn::Turn,
};

/// Writes that may share a commit, and their bytes.
const WRITES: usize = 512;
const BYTES: usize = 8 * 1024 * 1024;

/// The way to the writer. Dropping it ends the thread, if there is one, once everything that waits is written.
pub(crate) struct Writer {
    engine: Arc<dyn Engine>,
    turn: Arc<Turn>,
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The thread, as long as it runs: nobody is left waiting for one that has ended.
struct Running(Arc<Queue>);

impl Writer {
    pub(crate) fn start(engine: Arc<dyn Engine>) -> std::io::Result<Self> {
        let (turn, queue) = (Arc::new(Turn::default()), Arc::new(Queue::default()));
        let run = {
            let (engine, turn, running) = (Arc::clone(&engine), Arc::clone(&turn), Running(Arc::clone(&queue)));
            move || run(&*engine, &turn, &running.0)
        };
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(run)?;
        Ok(Self { engine, turn, queue, thread: Some(thread) })
    }

    /// A writer of an engine in memory: whoever brings a write makes it.
    pub(crate) fn without_thread(engine: Arc<dyn Engine>) -> Self {
        Self { engine, turn: Arc::default(), queue: Arc::default(), thread: None }
    }

    /// Hands a write over: it is made after those that were handed over before it, or with them.
    pub(crate) fn submit(&self, request: Request) -> Result<(), StoreError> {
        if self.thread.is_none() {
            let mut turn = self.turn.take();
            let mut group = Group::new(&*self.engine);
            group.take(request);
            return group.commit(1, &mut turn);
        }
        self.queue.push(request)
    }

    /// Takes a write that goes with the next one.
    pub(crate) fn submit_ahead(&self, writes: Vec<PlainWrite>) -> Result<(), StoreError> {
        let request = Request::Put { writes, durability: Durability::Ahead, reply: None };
        if self.thread.is_none() { self.submit(request) } else { self.queue.push_ahead(request) }
    }

    /// Makes a write that needs no sync, if nobody else writes or waits and the engine makes nobody wait. Else it is given back.
    pub(crate) fn put_now(&self, writes: Vec<PlainWrite>) -> Result<Result<(), StoreError>, Vec<PlainWrite>> {
        let free = self.turn.try_take().filter(|turn| turn.broken().is_none());
        let Some(mut turn) = free.filter(|_| self.queue.is_empty() && self.engine.has_room()) else {
            return Err(writes);
        };
        let mut group = Group::new(&*self.engine);
        Ok(group.put(writes).and_then(|()| group.commit(1, &mut turn)))
    }

    /// See [`crate::LocalStore::failed`].
    pub(crate) async fn failed(&self) -> String {
        self.turn.failed().await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn run(engine: &dyn Engine, turn: &Turn, queue: &Queue) {
    while queue.wait() {
        let mut turn = turn.take();
        let (mut group, mut taken) = (Group::new(engine), 0);
        while taken < WRITES && group.bytes() < BYTES {
            let Some(next) = queue.pop() else { break };
            taken += 1;
            group.take(next);
        }
        // Whoever waits was told.
        let _ = group.commit(taken, &mut turn);
    }
}

#[cfg(test)]
mod tests;
