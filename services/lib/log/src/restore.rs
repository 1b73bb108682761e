//! What must be done to a store that was put back from a copy, before anybody else begins: finishing the logs that moved while the copy
//! was made.
//!
//! A copy of a store in use has no one moment. Made in the order that operators are told (`deploy/README.md`), projections are behind the
//! logs and never ahead of them, and every log that moved meanwhile stands in the registry's slots. So all runs that the registry knows
//! are finished once more, also those that were finished when the registry was copied: what they projected may not be in the copy. A log's
//! later bucket may be in the copy without all rows of the one before it: it goes, since it is beyond the copy's end.

use std::{collections::BTreeSet, future::ready, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use polity_core::{
    IncarnationId, LogKey,
    mutation::{Mutation, planted},
};
use polity_store::{Consistency, Expect, Row, Store, schema, values_of};

use crate::{
    Dead, LogError, MemberState, Recover, Registry,
    members::{self, CLUSTER, GONE},
    read::{self, in_bucket, partition},
    recover::finish,
    registry::condition,
};

/// Logs that are looked at, and cut, at once.
const AT_ONCE: usize = 32;
/// Buckets that may be missing in between.
const APART: u64 = 4;

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Runs of processes that were finished.
    pub runs: usize,
    /// Logs that they had open.
    pub logs: usize,
    /// Buckets that went, since rows before them weren't in the copy.
    pub buckets: usize,
    /// Runs with logs that are damaged: they stay as they are, set aside.
    pub unfinished: usize,
}

/// Finishes what the copy caught under way; `uses` are all kinds of logs, and what is written where a partition was deleted isn't seen for
/// the time `hidden`. May be repeated, and begun again after it died anywhere. No other process may run.
///
/// # Errors
/// When the store can't be read or written: the store isn't ready to be used.
pub async fn restore(registry: &Registry, uses: &[Arc<dyn Recover>], hidden: Duration) -> Result<Restored, LogError> {
    let mut done = Restored::default();
    let mut dead = Vec::new();
    for row in members::rows(&*registry.store, Consistency::Serial).await? {
        if let Some(run) = reopen(registry, row).await? {
            dead.push(run);
        }
    }
    let mut logs = BTreeSet::new();
    for run in &dead {
        logs.extend(registry.left_open(*run).await?.into_iter().map(|left| left.key));
    }
    let cuts = stream::iter(logs.clone()).map(|key| cut(&*registry.store, key)).buffer_unordered(AT_ONCE);
    done.buckets = cuts.try_fold(0, |sum, cut| ready(Ok(sum + cut))).await?;
    // Some may also have been deleted by one that died.
    if !logs.is_empty() && !hidden.is_zero() && !planted(Mutation::DeletionForgotten) {
        tokio::time::sleep(hidden).await;
    }
    for run in dead {
        let finished = finish(registry, run, uses).await?.1;
        *(if finished { &mut done.runs } else { &mut done.unfinished }) += 1;
    }
    Ok(Restored { logs: logs.len(), ..done })
}

/// A run that the registry knows, closed and not finished. All its slots are looked at: those that had been dropped when one part of the
/// registry was copied may be in the other part.
async fn reopen(registry: &Registry, row: Row) -> Result<Option<Dead>, LogError> {
    let (Some((state, last)), Some(key)) = (row.guards, row.key.first()) else { return Ok(None) };
    let named = key.as_blob().and_then(|bytes| IncarnationId::from_slice(bytes).ok());
    let Some(incarnation) = named.filter(|named| *named != registry.incarnation() && state != GONE) else {
        return Ok(None);
    };
    if planted(Mutation::FinishedForGood) && state == MemberState::Drained.guard() {
        return Ok(None);
    }
    let stands = condition(row.key.clone(), Expect::Guards(state, last));
    let closed = members::with_first_slot(row.guarded(MemberState::Closed.guard(), last), 1);
    registry.cas(&schema::MEMBERS, values_of![CLUSTER], stands, closed).await?;
    Ok(Some(registry.close(incarnation).await?))
}

/// Deletes buckets of a log that aren't reached by dense rows; how many.
async fn cut(store: &dyn Store, key: LogKey) -> Result<usize, LogError> {
    let hint = read::projected_seq(store, key).await?;
    let mut end = hint.bucket();
    while let Some(found) = in_bucket(store, key, end, Consistency::Serial).await? {
        if found.head.epoch.is_sealed() {
            return Ok(0);
        }
        if found.head.seq < end.last_seq() {
            break;
        }
        end = end.next();
    }
    if planted(Mutation::BeyondTheEndStays) {
        return Ok(0);
    }
    let (mut beyond, mut absent, mut bucket) = (Vec::new(), 0, end.next());
    while absent < APART {
        if in_bucket(store, key, bucket, Consistency::Serial).await?.is_some() {
            beyond.push(bucket);
            absent = 0;
        } else {
            absent += 1;
        }
        bucket = bucket.next();
    }
    // The last one first: whoever dies here leaves no hole behind which one isn't found.
    for bucket in beyond.iter().rev() {
        store.drop_partition(&schema::LOG, partition(key, *bucket)).await?;
    }
    Ok(beyond.len())
}
