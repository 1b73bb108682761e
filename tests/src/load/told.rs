//! What syncs told of a room, put together as a client does, and what a straightforward replay of the room's events says of the same moments.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use serde_json::Value;

use super::{unread, world::text};

/// Type and key.
pub(super) type StateKey = (String, String);

/// A room as a client has it.
#[derive(Default)]
pub(super) struct Told {
    /// Event ids of the state.
    pub(super) state: BTreeMap<StateKey, String>,
    /// Of that state.
    mark: u64,
    joined: Option<u64>,
    /// What it had after each section whose timeline had an event.
    pub(super) looks: Vec<Look>,
}

/// What a client had once it had taken a section.
pub(super) struct Look {
    /// The last event of the timeline.
    pub(super) last: String,
    /// The last one that the client had before.
    pub(super) before: Option<String>,
    /// A mark of the state, and of what this section told of it alone.
    pub(super) state: u64,
    pub(super) alone: u64,
    /// Members by the summary that was told last.
    pub(super) joined: Option<u64>,
    /// What is unread.
    pub(super) unread: Option<u64>,
}

/// The part of the state of which a section tells more than one event beside the timeline: a client takes any of them.
pub(super) fn told_twice(section: &Value, is_after: bool) -> Option<StateKey> {
    let mut keys = HashSet::new();
    let beside = events(&section[if is_after { "state_after" } else { "state" }]);
    beside.iter().filter_map(key_of).find(|key| !keys.insert(key.clone()))
}

/// The ids of a timeline's events.
pub(super) fn ids(timeline: &Value) -> Vec<String> {
    events(timeline).iter().map(|event| text(event, "event_id").to_owned()).collect()
}

impl Told {
    /// Takes a section of a room that the user is in, with the state before or after its timeline; `before` is the last event that the
    /// client had.
    pub(super) fn take(&mut self, section: &Value, is_after: bool, before: Option<&str>) {
        let mut alone = BTreeMap::new();
        for (key, event_id) in changes(section, is_after) {
            alone.insert(key, event_id.to_owned());
        }
        let own = alone.iter().fold(0, |sum, (key, event_id)| u64::wrapping_add(sum, mark(key, event_id)));
        for (key, event_id) in alone {
            self.mark = self.mark.wrapping_add(mark(&key, &event_id));
            if let Some(old) = self.state.insert(key.clone(), event_id) {
                self.mark = self.mark.wrapping_sub(mark(&key, &old));
            }
        }
        self.joined = section["summary"]["m.joined_member_count"].as_u64().or(self.joined);
        if let Some(last) = events(&section["timeline"]).last() {
            let (last, before) = (text(last, "event_id").to_owned(), before.map(str::to_owned));
            let (state, joined, unread) = (self.mark, self.joined, unread::told(section));
            self.looks.push(Look { last, before, state, alone: own, joined, unread });
        }
    }

    /// The room is over for the user: a client keeps nothing of it.
    pub(super) fn leave(&mut self) {
        *self = Self { looks: std::mem::take(&mut self.looks), ..Self::default() };
    }
}

/// What a room was when it ended with one of its events.
pub(super) struct Moment {
    /// A mark of its state.
    pub(super) state: u64,
    /// How many had joined.
    pub(super) joined: u64,
}

/// All moments of a room.
pub(super) fn moments(events: &[Value]) -> Vec<Moment> {
    let (mut ids, mut state, mut joined) = (BTreeMap::<StateKey, &str>::new(), 0_u64, HashSet::new());
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        if let Some(key) = key_of(event) {
            if key.0 == "m.room.member" {
                let is_in = text(&event["content"], "membership") == "join";
                if is_in {
                    joined.insert(key.1.clone())
                } else {
                    joined.remove(&key.1)
                };
            }
            let event_id = text(event, "event_id");
            state = state.wrapping_add(mark(&key, event_id));
            if let Some(old) = ids.insert(key.clone(), event_id) {
                state = state.wrapping_sub(mark(&key, old));
            }
        }
        out.push(Moment { state, joined: joined.len() as u64 });
    }
    out
}

/// The changes of state that a section tells, in order: those beside the timeline, and in it.
pub(super) fn changes(section: &Value, is_after: bool) -> impl Iterator<Item = (StateKey, &str)> {
    let beside = events(&section[if is_after { "state_after" } else { "state" }]);
    // With the state after the timeline at hand, the timeline says nothing about state.
    let timeline = if is_after { &[] } else { events(&section["timeline"]) };
    beside.iter().chain(timeline).filter_map(|event| Some((key_of(event)?, text(event, "event_id"))))
}

/// The events of a part of a section.
pub(super) fn events(section: &Value) -> &[Value] {
    section["events"].as_array().map_or(&[], Vec::as_slice)
}

fn key_of(event: &Value) -> Option<StateKey> {
    Some((text(event, "type").to_owned(), event["state_key"].as_str()?.to_owned()))
}

/// A number for one event of a state; that of a state is their sum.
fn mark(key: &StateKey, event_id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((key, event_id))
}
