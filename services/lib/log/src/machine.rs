//! What the user of a log brings: how its commands are decided and what its rows mean.

use async_trait::async_trait;
use bytes::Bytes;
use polity_core::{LogKey, Seq};
use polity_store::Write;

use crate::{Head, LogError, LogRow, NewRow};

/// Who asked for a row, so that the same request gives one row: the device and its transaction id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dedup {
    /// The device (or whatever scopes the transaction id), unique within the log.
    pub device: Box<str>,
    /// The transaction id, including its scope within the device (the endpoint).
    pub txn: Box<str>,
}

/// What a command comes to.
#[derive(Debug)]
pub enum Decision<R> {
    /// These rows are to be appended; `reply` is given once they are durable.
    Append {
        /// The rows, in order: one; or 1 to 64 as the first rows of a log. They land at once or not at all, so they can't cross a
        /// bucket's end, and only the beginning of a log is sure to be far enough from one.
        rows: Vec<NewRow>,
        /// The answer.
        reply: R,
        /// Whether the answer waits until the projections of these rows are written (commands about a membership, a user record).
        after_projection: bool,
    },
    /// The rows up to `up_to` (at most the last one that is in the log already) go, and [`Head::first`] says so. The machine sees
    /// to it that nobody needs them any more: readers that come later begin behind them. One conditional write, shared with
    /// the appends of the group; rows in older buckets follow it, or are left to the next trim if the process dies in between.
    /// Transactions of rows that went are still known.
    Trim {
        /// The last row that goes.
        up_to: Seq,
        /// The answer, once the rows can't be read any more.
        reply: R,
    },
    /// Nothing changes; this is the answer (also a refusal).
    Reply(R),
}

/// What must be written before the group is appended, and the head that goes with it.
#[derive(Debug, Default)]
pub struct Sealed {
    /// The machine's part of the new head: begins with a format byte.
    pub head: Bytes,
    /// Plain rows that the head refers to (state nodes): they stand before the append does.
    pub before: Vec<Write>,
}

/// A log's user. One per loaded log, driven by one task: `load`, then for each group `prepare`, `decide`..., `project`,
/// `seal`, append, `announce`. After a lost append it is made anew by its factory and loaded again; nothing of it survives.
#[async_trait]
pub trait Machine: Send + 'static {
    /// A command.
    type Command: Send + Sync + 'static;
    /// What it is answered.
    type Reply: Send + 'static;

    /// Takes over the state that `head` describes (`None`: the log has no row yet). May read the store. `tail` are the rows past
    /// `projected_seq`, oldest first, which no projection may show yet.
    ///
    /// # Errors
    /// The load is given up; all waiting commands get the error. One that [is permanent](LogError::is_permanent) sets the log aside.
    async fn load(&mut self, key: LogKey, head: Option<&Head>, tail: &[LogRow]) -> Result<(), LogError>;

    /// Reads whatever deciding these commands needs and isn't in memory yet. The only place besides `load` that may wait.
    ///
    /// # Errors
    /// Nothing was decided. All commands of the group get the error; if it [is permanent](LogError::is_permanent), only those that
    /// cause it also alone.
    async fn prepare(&mut self, group: &[&Self::Command]) -> Result<(), LogError>;

    /// The transaction that makes this command the same as an earlier one.
    fn dedup<'a>(&self, command: &'a Self::Command) -> Option<&'a Dedup>;

    /// The answer to a command whose transaction stands in the log already.
    fn repeated(&mut self, command: &Self::Command, row: &RepeatedRow) -> Self::Reply;

    /// Decides one command (again, on newly loaded state, if the append was lost): pure, without IO, on the state that all earlier
    /// decisions of the group left. `next` is the number that its first row will get.
    fn decide(&mut self, command: &Self::Command, next: Seq) -> Decision<Self::Reply>;

    /// The answer when the log itself failed.
    fn failed(error: LogError) -> Self::Reply;

    /// Ends a group that appends or trims: the new head.
    ///
    /// # Errors
    /// The group is given up and the machine loaded again.
    fn seal(&mut self, last: Seq) -> Result<Sealed, LogError>;

    /// The projections of these rows: a function of the rows alone, stamped with their positions. Asked for before the rows are
    /// appended: those whose projections no store would take are refused. The engine itself writes `transactions` and
    /// `projected`.
    fn project(&self, key: LogKey, rows: &[LogRow]) -> Vec<Write>;

    /// Ends what a log that was sealed stands for elsewhere, before any of its rows go: a machine that is loaded for nothing else. What it
    /// writes as projections bears the position after `head`. Called again from the beginning if it failed or its process died.
    ///
    /// # Errors
    /// It is called again, unless the error [is permanent](LogError::is_permanent).
    async fn purge(&mut self, _key: LogKey, _head: &Head) -> Result<(), LogError> {
        Ok(())
    }

    /// Drops what only these rows name, which are about to go: all of the log, some at a time, and in the end once with none. May be called
    /// again for the same rows.
    ///
    /// # Errors
    /// As for [`Machine::purge`].
    async fn purge_rows(&mut self, _key: LogKey, _rows: &[LogRow]) -> Result<(), LogError> {
        Ok(())
    }

    /// About how many bytes it holds beside the few KiB that each takes: those that hold more are fewer.
    fn weight(&self) -> usize {
        0
    }

    /// Tells the world (the bus) of rows that are durable; a hint, called in order.
    fn announce(&mut self, key: LogKey, rows: &[LogRow]);
}

/// The row that a repeated transaction gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedRow {
    /// Its number.
    pub seq: Seq,
    /// Its event id, where it has one.
    pub event_id: Option<Box<str>>,
}
