//! What isn't in a room's log: who types, and others' receipts as they come. In memory only, lost without harm: typing ends by
//! itself, receipts are kept for display in the store.

mod event;
mod render;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use polity_core::{
    LogId, TenantId,
    sync_token::{EphemeralPosition, EphemeralPositions},
};
use ruma_common::OwnedUserId;

pub use event::{EphemeralEvent, InvalidEphemeral, Receipt};
pub use render::{receipts_event, typing_event};

/// Receipts remembered per room; who was away for longer gets them from the store.
const RECEIPTS: usize = 64;
/// Typing users per room; more would tell nobody anything.
const TYPING: usize = 64;
/// Rooms with typing or recent receipts.
const ROOMS: usize = 20_000;
/// So many are dropped at once when they get too many.
const DROPPED: usize = ROOMS / 16;
/// Events of a second that are told once more; of more only the first ones.
const REPEATED: usize = 4096;

/// Typing and recent receipts of the rooms that this process hears of.
pub struct Ephemeral {
    instance: u32,
    state: Mutex<State>,
    /// What happened here since others were told once more.
    repeats: Mutex<Vec<((TenantId, LogId), EphemeralEvent)>>,
}

#[derive(Default)]
struct State {
    counter: u64,
    rooms: HashMap<(TenantId, LogId), Room>,
    /// Rooms whose last change was up to this counter may have been dropped: who knows less has perhaps missed what they told.
    dropped: u64,
}

#[derive(Default)]
struct Room {
    /// Who types, and until when (monotonic).
    typing: BTreeMap<OwnedUserId, Duration>,
    /// The counter when that changed last.
    typing_at: u64,
    receipts: VecDeque<(u64, Receipt)>,
    /// Receipts up to this counter may have been dropped from the window.
    receipts_from: u64,
}

/// What changed in a room since a position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who types now, if that changed.
    pub typing: Option<Vec<OwnedUserId>>,
    /// New receipts.
    pub receipts: Vec<Receipt>,
    /// Whether there may be more of them in the store.
    pub receipts_incomplete: bool,
}

// === impl Ephemeral ===

impl Ephemeral {
    /// Nothing known yet. `instance` is random: it tells this process's positions from others'.
    #[must_use]
    pub fn new(instance: u32) -> Self {
        Self { instance, state: Mutex::default(), repeats: Mutex::default() }
    }

    /// The position now.
    #[must_use]
    pub fn position(&self) -> EphemeralPosition {
        EphemeralPosition { instance: self.instance, counter: self.state.lock().counter }
    }

    /// Where a client is that was answered by these instances. One that goes round among more of them than its token remembers is told
    /// only what comes while it waits: else it would be told the same for ever.
    #[must_use]
    pub fn place_of(&self, places: &EphemeralPositions) -> EphemeralPosition {
        match places.at(self.instance) {
            Some(place) => place,
            None if places.is_full() => self.position(),
            None => EphemeralPosition::default(),
        }
    }

    /// Takes an event in; `now` is monotonic. If it changed anything, `wake` is called before anybody sees the new position: a
    /// session that isn't woken yet has missed nothing up to the position that it reads.
    pub fn apply(&self, room: (TenantId, LogId), event: EphemeralEvent, now: Duration, wake: impl FnOnce()) {
        let mut state = self.state.lock();
        state.make_place(room);
        state.counter += 1;
        let counter = state.counter;
        let dropped = state.dropped;
        // It may be one that was dropped: with its receipts, and with whoever typed there.
        let new = || Room { typing_at: dropped, receipts_from: counter - 1, ..Room::default() };
        let entry = state.rooms.entry(room).or_insert_with(new);
        let changed = match event {
            EphemeralEvent::Typing { user_id, timeout_ms } => entry.typing(user_id, timeout_ms, now, counter),
            // Applied at once where it was made, it comes by the bus again.
            EphemeralEvent::Receipt(receipt) if entry.receipts.iter().any(|(_, known)| *known == receipt) => false,
            EphemeralEvent::Receipt(receipt) => {
                if entry.receipts.len() == RECEIPTS
                    && let Some((dropped, _)) = entry.receipts.pop_front()
                {
                    entry.receipts_from = dropped;
                }
                entry.receipts.push_back((counter, receipt));
                true
            }
        };
        if changed {
            wake();
        }
    }

    /// Notes an event that happened here, to be told to other processes once more: no log has it, so nobody knows what the bus lost.
    pub fn repeat(&self, room: (TenantId, LogId), event: EphemeralEvent) {
        let mut repeats = self.repeats.lock();
        if repeats.len() < REPEATED {
            repeats.push((room, event));
        }
    }

    /// What is to be told once more: of who types, how it is now.
    pub fn repeats(&self, now: Duration) -> Vec<((TenantId, LogId), EphemeralEvent)> {
        let mut repeats = std::mem::take(&mut *self.repeats.lock());
        let state = self.state.lock();
        for (room, event) in &mut repeats {
            if let EphemeralEvent::Typing { user_id, timeout_ms } = event {
                let until = state.rooms.get(room).and_then(|room| room.typing.get(user_id));
                let left = until.map_or(0, |until| until.saturating_sub(now).as_millis());
                *timeout_ms = u32::try_from(left).unwrap_or(u32::MAX);
            }
        }
        repeats
    }

    /// Whether a position is one of this process.
    #[must_use]
    pub fn is_own(&self, position: EphemeralPosition) -> bool {
        position.instance == self.instance
    }

    /// Whether anything is known to have changed in a room since `position`. Of another process's positions nothing is known: then
    /// whatever this one has heard counts, and no more, so that a restart doesn't make everybody read the receipts of all rooms.
    /// A receipt of just before it is told with the room's next event.
    #[must_use]
    pub fn moved(&self, room: (TenantId, LogId), position: EphemeralPosition) -> bool {
        let own = self.is_own(position);
        let after = if own { position.counter } else { 0 };
        let state = self.state.lock();
        match state.rooms.get(&room) {
            Some(entry) => entry.changed_at() > after,
            None => own && after < state.dropped,
        }
    }

    /// What changed in a room since `position`.
    #[must_use]
    pub fn since(&self, room: (TenantId, LogId), position: EphemeralPosition) -> Changes {
        let foreign = !self.is_own(position);
        let after = if foreign { 0 } else { position.counter };
        let state = self.state.lock();
        let Some(entry) = state.rooms.get(&room) else {
            let missed = !foreign && after < state.dropped;
            let typing = missed.then(Vec::new);
            return Changes { typing, receipts: Vec::new(), receipts_incomplete: foreign || missed };
        };
        let typing_changed = entry.typing_at > after && !(foreign && entry.typing.is_empty());
        Changes {
            typing: typing_changed.then(|| entry.typing.keys().cloned().collect()),
            receipts: entry.receipts.iter().filter(|(at, _)| *at > after).map(|(_, receipt)| receipt.clone()).collect(),
            receipts_incomplete: foreign || entry.receipts_from > after,
        }
    }

    /// Ends what has timed out; `wake` is called for the rooms where that changed something, as [`Ephemeral::apply`] does.
    pub fn expire(&self, now: Duration, mut wake: impl FnMut((TenantId, LogId))) {
        let mut state = self.state.lock();
        let State { counter, rooms, .. } = &mut *state;
        for (key, room) in rooms {
            let before = room.typing.len();
            room.typing.retain(|_, until| *until > now);
            if room.typing.len() != before {
                *counter += 1;
                room.typing_at = *counter;
                wake(*key);
            }
        }
    }

    /// Whether somebody types anywhere: otherwise nothing can expire.
    #[must_use]
    pub fn anybody_types(&self) -> bool {
        self.state.lock().rooms.values().any(|room| !room.typing.is_empty())
    }
}

// === impl State ===

impl State {
    /// Keeps the number of rooms bounded: those that changed longest ago go, the ones without typing first.
    fn make_place(&mut self, room: (TenantId, LogId)) {
        if self.rooms.len() < ROOMS || self.rooms.contains_key(&room) {
            return;
        }
        let mut ages: Vec<_> = self.rooms.values().map(Room::age).collect();
        let (_, youngest, _) = ages.select_nth_unstable(DROPPED - 1);
        let youngest = *youngest;
        self.rooms.retain(|_, room| room.age() > youngest);
        let (typing, changed_at) = youngest;
        if typing {
            // Nobody will be told that it ended: everybody has missed that.
            self.counter += 1;
        }
        self.dropped = self.dropped.max(if typing { self.counter } else { changed_at });
    }
}

// === impl Room ===

impl Room {
    /// The counter when anything changed last.
    fn changed_at(&self) -> u64 {
        self.receipts.back().map_or(self.receipts_from, |(at, _)| *at).max(self.typing_at)
    }

    /// What is greater is dropped later.
    fn age(&self) -> (bool, u64) {
        (!self.typing.is_empty(), self.changed_at())
    }

    fn typing(&mut self, user_id: OwnedUserId, timeout_ms: u32, now: Duration, counter: u64) -> bool {
        let changed = if timeout_ms == 0 {
            self.typing.remove(&user_id).is_some()
        } else if self.typing.len() < TYPING || self.typing.contains_key(&user_id) {
            self.typing.insert(user_id, now + Duration::from_millis(timeout_ms.into())).is_none()
        } else {
            false
        };
        if changed {
            self.typing_at = counter;
        }
        changed
    }
}

#[cfg(test)]
mod tests;
