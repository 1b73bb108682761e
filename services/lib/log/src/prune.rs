//! Takes finished runs out of the registry, which everybody reads whole again and again.
//!
//! Who reads it seldom may not have seen that a run came and ended: so they are counted as they go, in the same write, and whoever misses
//! more than it knew to be finished knows nothing for sure (`cluster/digest`). Their slots go after that, when nobody asks for them any
//! more, and what is left of their rows at last: a crash in between leaves what the next one finds.

use polity_core::IncarnationId;
use polity_store::{Cas, Change, Consistency, Expect, Row, schema, values_of};

use crate::{
    LogError, MemberState, Registry,
    members::{self, CLUSTER, GONE},
    registry::condition,
};

/// Runs that are taken out at once.
const AT_ONCE: usize = 64;

impl Registry {
    /// Takes runs out that are finished: of those that aren't nothing changes. How many went.
    ///
    /// # Errors
    /// When the store can't be read or written: the rest goes the next time.
    pub async fn prune(&self, finished: &[IncarnationId]) -> Result<usize, LogError> {
        let rows = members::rows(&*self.store, Consistency::Serial).await?;
        let state = |row: &Row| row.guards.map_or(GONE, |(state, _)| state);
        let counted = rows.iter().find(|row| row.key == members::counter());
        let before = counted.and_then(|row| row.guards).map_or(0, |(_, count)| count);
        let drained = MemberState::Drained.guard();
        let is_finished = |row: &&Row| finished.iter().any(|it| members::key(*it) == row.key);
        let ended = rows.iter().filter(|row| state(row) == drained).filter(is_finished).take(AT_ONCE);
        let mut going: Vec<Row> = ended
            .filter_map(|row| {
                // Drained is for ever: nobody changes the row any more.
                let slots = row.guards?.1;
                Some(row.clone().guarded(GONE, slots))
            })
            .collect();
        let (count, changes) = (going.len(), going.iter().cloned().map(Change::Put).collect());
        let after = before + i64::try_from(count).unwrap_or(i64::MAX);
        if count > 0 && !self.count(before, after, changes).await? {
            // Somebody else is at it.
            return Ok(0);
        }
        let half_gone = rows.iter().filter(|row| state(row) == GONE && row.key != members::counter());
        going.extend(half_gone.take(AT_ONCE).cloned());
        self.clear(after, going).await.map(|()| count)
    }

    /// Changes rows, if nobody has taken runs out since they were counted.
    async fn count(&self, before: i64, after: i64, mut changes: Vec<Change>) -> Result<bool, LogError> {
        let expect = if before == 0 { Expect::Absent } else { Expect::Guards(GONE, before) };
        let counter = Row::new(members::counter(), bytes::Bytes::new()).guarded(GONE, after);
        let condition = condition(counter.key.clone(), expect);
        changes.push(Change::Put(counter));
        let outcome = self.store.cas(&schema::MEMBERS, values_of![CLUSTER], condition, changes).await?;
        Ok(matches!(outcome, Cas::Applied))
    }

    /// Drops the slots of runs that nobody knows any more, and then their rows.
    async fn clear(&self, pruned: i64, going: Vec<Row>) -> Result<(), LogError> {
        let mut rows = Vec::new();
        for row in going {
            let (Some((_, last)), Some(key)) = (row.guards, row.key.first()) else { continue };
            let named = key.as_blob().and_then(|bytes| IncarnationId::from_slice(bytes).ok());
            let Some(incarnation) = named else { continue };
            for slot in members::first_slot(&row)..=last {
                self.store.drop_partition(&schema::ACTIVE, self.slot_of(incarnation, slot)).await?;
            }
            rows.push(Change::DeleteRange { first: key.clone(), last: key.clone() });
        }
        if !rows.is_empty() {
            self.count(pruned, pruned, rows).await?;
        }
        Ok(())
    }
}
