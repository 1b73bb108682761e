//! Finishing what dead processes left.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use polity_core::{
    IncarnationId, LogKey,
    mutation::{Mutation, planted},
};

use crate::{Dead, Left, LogError, Registry, pause::pause};

/// Logs recovered at once: they shouldn't crowd out those that somebody waits for.
const AT_ONCE: usize = 32;
/// A log whose task has died this often while it was recovered is set aside: what it finds there is what kills it.
const DEATHS: u32 = 5;

/// Finishes what dead processes left: implemented by [`crate::Logs`] of every use.
#[async_trait]
pub trait Recover: Send + Sync {
    /// The name of the use.
    fn usage(&self) -> &'static str;
    /// Fences the log, whoever writes it now, writes the projections that are missing and announces their rows.
    ///
    /// # Errors
    /// When that didn't succeed: try again, unless [`LogError::is_permanent`].
    async fn recover(&self, key: LogKey) -> Result<(), LogError>;
}

/// Knows which logs of a use this process has open.
pub(crate) trait Holds: Send + Sync {
    /// The name of the use.
    fn usage(&self) -> &'static str;
    /// All logs that are loaded, about to be, not wholly projected, have a write of unknown outcome, or moved a moment ago.
    fn held(&self) -> Vec<LogKey>;
    /// Whether none is loaded, unprojected or unknown.
    fn owes_nothing(&self) -> bool;
}

/// Finishes what dead runs of this node left; how many logs that were. A log that can't be read or projected at all, or whose use
/// isn't known here, is set aside: its run stays to be finished by somebody who can.
///
/// # Errors
/// When the registry can't be read or written, or [`LogError::Closed`]. What was finished stays so.
pub async fn recover_all(registry: &Registry, node: &str, uses: &[Arc<dyn Recover>]) -> Result<usize, LogError> {
    let mut count = 0;
    for earlier in registry.predecessors(node).await? {
        count += recover(registry, earlier.incarnation, uses).await?;
    }
    Ok(count)
}

/// [`recover_all`], with pauses until it has succeeded: meanwhile nothing that an earlier run left may be forgotten.
///
/// # Errors
/// [`LogError::Closed`]: this process may write nothing any more.
pub async fn recover_until_done(registry: &Registry, node: &str, uses: &[Arc<dyn Recover>]) -> Result<usize, LogError> {
    for attempt in 0.. {
        match recover_all(registry, node, uses).await {
            Err(error) if !matches!(error, LogError::Closed) => {
                tracing::warn!(%error, "earlier runs can't be recovered wholly yet");
            }
            outcome => return outcome,
        }
        pause(registry.incarnation(), attempt).await;
    }
    Err(LogError::Ended)
}

/// Closes a process, which then can open nothing any more, and finishes what it left; how many logs that were.
///
/// # Errors
/// As for [`recover_all`].
pub async fn recover(
    registry: &Registry,
    incarnation: IncarnationId,
    uses: &[Arc<dyn Recover>],
) -> Result<usize, LogError> {
    let dead = registry.close(incarnation).await?;
    finish(registry, dead, uses).await.map(|(count, _)| count)
}

/// Finishes what a closed process left; how many logs that were, and whether they were all.
pub(crate) async fn finish(
    registry: &Registry,
    dead: Dead,
    uses: &[Arc<dyn Recover>],
) -> Result<(usize, bool), LogError> {
    let mut left = registry.left_open(dead).await?;
    if planted(Mutation::DrainedUnseen) {
        left.clear();
    }
    let (count, finished) = (left.len(), AtomicUsize::new(0));
    stream::iter(left)
        .map(Ok::<Left, LogError>)
        .try_for_each_concurrent(AT_ONCE, |log| async {
            finished.fetch_add(usize::from(recover_log(log, uses).await?), Ordering::Relaxed);
            Ok(())
        })
        .await?;
    let finished = finished.into_inner();
    if finished == count {
        // All of them were projected here: nobody else's word is taken for it.
        registry.drained(dead).await?;
    }
    Ok((finished, finished == count))
}

/// Says whether the log is finished: else it is set aside.
async fn recover_log(log: Left, uses: &[Arc<dyn Recover>]) -> Result<bool, LogError> {
    let Some(logs) = uses.iter().find(|logs| logs.usage() == log.usage) else {
        tracing::error!(log = %log.key, usage = log.usage, "a log of an unknown use is left unfinished");
        return Ok(false);
    };
    let mut deaths = 0;
    for attempt in 0.. {
        let outcome = logs.recover(log.key).await;
        deaths += u32::from(matches!(outcome, Err(LogError::Ended)));
        match outcome {
            // A purged log is nobody's any more.
            Ok(()) | Err(LogError::Sealed) => return Ok(true),
            // Whoever closed this process finishes what this one doesn't.
            Err(LogError::Closed) => return Err(LogError::Closed),
            Err(error) if error.is_permanent() || deaths >= DEATHS => {
                tracing::error!(%error, log = %log.key, "a log can't be recovered: it is left unfinished");
                return Ok(false);
            }
            Err(error) => tracing::warn!(%error, log = %log.key, "a log can't be recovered yet"),
        }
        pause(log.key, attempt).await;
    }
    Ok(false)
}
