//! The state at a place in a room: a trie root and the changes since.

use polity_room_engine::record::{Roots, StateDelta};
use ruma_common::{EventId, OwnedEventId};

use super::StoredRow;

/// The state at some row: that before its group, and the changes of the group's rows before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateView {
    /// The state at a group's beginning (or a room's head).
    pub roots: Roots,
    /// What changed since, oldest first.
    pub changes: Vec<StateDelta>,
}

/// One entry that differs between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The event type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// What stands there in the earlier state.
    pub then: Option<OwnedEventId>,
    /// What stands there in the later state.
    pub now: Option<OwnedEventId>,
}

impl StateView {
    /// The state with these roots.
    #[must_use]
    pub fn at_roots(roots: Roots) -> Self {
        Self { roots, changes: Vec::new() }
    }

    /// The state before `row`, given the rows of its group before it, oldest first.
    #[must_use]
    pub fn before<'a>(row: &StoredRow, group: impl IntoIterator<Item = &'a StoredRow>) -> Self {
        let changes = group.into_iter().flat_map(|row| row.meta.deltas.iter().cloned()).collect();
        Self { roots: row.meta.roots, changes }
    }

    /// The state after a row, given that before it.
    #[must_use]
    pub fn after(mut self, row: &StoredRow) -> Self {
        self.changes.extend(row.meta.deltas.iter().cloned());
        self
    }

    /// The same with one more change.
    #[must_use]
    pub fn and(mut self, change: &StateDelta) -> Self {
        self.changes.push(change.clone());
        self
    }

    /// What the changes say of an entry: `None` that they don't, `Some(None)` that there is none any more.
    #[must_use]
    pub fn changed(&self, event_type: &str, state_key: &str) -> Option<Option<&EventId>> {
        let last = self.changes.iter().rev().find(|d| d.event_type == event_type && d.state_key == state_key)?;
        Some(last.after.as_deref())
    }
}
