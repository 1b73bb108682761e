//! A waiting sync: what woke it.

use std::sync::Arc;

use parking_lot::Mutex;
use polity_core::LogId;
use smallvec::SmallVec;
use tokio::sync::Notify;

/// What may have changed since the sync began to wait. Hints: they say where to look, never what is there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Anything: look everywhere.
    pub all: bool,
    /// The user's memberships or record.
    pub user: bool,
    /// The device's inbox.
    pub inbox: bool,
    /// The tenant's device-list changes.
    pub device_lists: bool,
    /// Rooms with new rows.
    pub rooms: SmallVec<[LogId; 2]>,
    /// Rooms in which somebody types or has read.
    pub ephemeral: SmallVec<[LogId; 2]>,
}

/// More dirty rooms than this, and it is simpler to look everywhere.
const DIRTY_ROOMS: usize = 64;

/// The waiting end of a sync, shared with whoever wakes it.
#[derive(Debug, Default)]
pub struct Session {
    dirty: Mutex<Dirty>,
    woken: Notify,
}

impl Session {
    /// A session that nothing has woken yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Notes what changed and wakes the sync.
    pub fn wake(&self, note: impl FnOnce(&mut Dirty)) {
        {
            let mut dirty = self.dirty.lock();
            note(&mut dirty);
            if dirty.rooms.len() + dirty.ephemeral.len() > DIRTY_ROOMS {
                dirty.all = true;
                dirty.rooms.clear();
                dirty.ephemeral.clear();
            }
        }
        self.woken.notify_one();
    }

    /// Waits until something changed since the last call, and says what; with what `before` gave before that was asked.
    pub async fn woken<T>(&self, before: impl Fn() -> T) -> (T, Dirty) {
        loop {
            let at = before();
            let dirty = std::mem::take(&mut *self.dirty.lock());
            if dirty != Dirty::default() {
                return (at, dirty);
            }
            self.woken.notified().await;
        }
    }
}

impl Dirty {
    /// Notes a room with new rows.
    pub fn room(&mut self, log: LogId) {
        if !self.rooms.contains(&log) {
            self.rooms.push(log);
        }
    }

    /// Notes a room in which somebody types or has read.
    pub fn ephemeral(&mut self, log: LogId) {
        if !self.ephemeral.contains(&log) {
            self.ephemeral.push(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_before_waiting_is_not_lost_and_is_told_once() {
        let session = Session::new();
        let room = LogId::new([1; 16]);
        session.wake(|dirty| dirty.room(room));
        session.wake(|dirty| dirty.room(room));
        session.wake(|dirty| dirty.inbox = true);
        let dirty = session.woken(|| ()).await.1;
        assert_eq!((dirty.rooms.as_slice(), dirty.inbox, dirty.all), ([room].as_slice(), true, false));
        let again = tokio::time::timeout(std::time::Duration::from_millis(20), session.woken(|| ())).await;
        assert!(again.is_err(), "nothing new");
    }

    #[tokio::test]
    async fn too_many_rooms_become_everything() {
        let session = Session::new();
        for n in 0..=DIRTY_ROOMS {
            session.wake(|dirty| dirty.room(LogId::derived(polity_core::TenantId::new(1), "room", &n.to_string())));
        }
        let dirty = session.woken(|| ()).await.1;
        assert!(dirty.all && dirty.rooms.is_empty());
    }
}
