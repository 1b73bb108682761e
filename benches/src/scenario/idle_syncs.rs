//! Syncs that wait while nothing happens: what memory each takes, and whether they take CPU.

use std::time::Duration;

use clap::Args;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use crate::error::LoadError;
use crate::matrix::{self, User};
use crate::meter::{Meter, Tally};
use crate::procs;
use crate::report::Row;
use crate::target::Target;

/// Sizes of `idle-syncs`.
#[derive(Args, Clone, Debug)]
pub struct IdleSyncs {
    /// Waiting syncs.
    #[arg(long, default_value_t = 1000)]
    pub syncs: usize,
    /// How long they are watched.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// A user that is up to date.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The user.
    pub(super) user: User,
    /// Where its next sync goes on.
    pub(super) since: String,
}

/// Brings users up to date.
pub(super) async fn caught_up(users: Vec<User>) -> Result<Vec<Waiter>, LoadError> {
    let syncs = stream::iter(users).map(|mut user| async move {
        let mut since = user.sync(None, 0).await?.0.next_batch;
        // What the first sync itself brought about must not wake the second.
        since = user.sync(Some(&since), 0).await?.0.next_batch;
        Ok(Waiter { user, since })
    });
    syncs.buffer_unordered(8).try_collect().await
}

impl IdleSyncs {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let users = matrix::register_many(target, self.syncs).await?;
        let mut waiters = caught_up(users).await?;
        for waiter in &mut waiters {
            waiter.user.connection.close();
        }
        // Connections that were closed are let go, so that they are counted with the waiting syncs.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = procs::usage(&target.pids)?;
        let timeout_ms = (self.seconds + 60) * 1000;
        let mut tasks = JoinSet::new();
        for Waiter { mut user, since } in waiters {
            tasks.spawn(async move { user.sync(Some(&since), timeout_ms).await });
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let waiting = procs::usage(&target.pids)?;
        let meter = Meter::start(target)?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let spent = procs::usage(&target.pids)?.cpu_ms.saturating_sub(waiting.cpu_ms);
        let mut tally = Tally::new()?;
        while let Some(early) = tasks.try_join_next() {
            let outcome = early?.and(Err::<(), _>(LoadError::Late("the wait: a sync answered early")));
            tally.note(Duration::ZERO, outcome);
        }
        let mut row = meter.finish("idle-syncs", format!("{} syncs, {} s", self.syncs, self.seconds), tally)?;
        let each = (waiting.rss_kib as f64 - before.rss_kib as f64) / self.syncs.max(1) as f64;
        row.extra = Some(format!("{each:.1} KiB a sync, {spent} ms CPU in all"));
        Ok(vec![row])
    }
}
