//! The two writes of a log: the append and the fence.

use polity_core::{Bucket, Epoch, IncarnationId, LogKey, Seq};
use polity_store::{Cas, Change, Condition, Consistency, Expect, Store, StoreError, schema};

use crate::{
    LogError,
    read::{self, partition},
    types::{Head, LogRow, head_key},
};

/// Rows in one append.
pub(crate) const GROUP_ROWS: usize = 64;
/// Bytes in one append.
pub(crate) const GROUP_BYTES: usize = 256 * 1024;
/// A fence is tried this often before the store counts as unavailable.
const FENCE_TRIES: usize = 16;

/// What a writer knows of the head that it extends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) head: Option<Head>,
    /// The bucket in which that head stands.
    pub(crate) bucket: Bucket,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log.
    Applied,
    /// Another head stands there; it isn't in the log and never will be.
    Lost,
    /// Nobody knows: only a fence settles it.
    Unknown,
}

impl Known {
    pub(crate) fn seq(&self) -> Seq {
        self.head.as_ref().map_or(Seq::ZERO, |head| head.seq)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.head.as_ref().map_or(Epoch::FIRST, |head| head.epoch)
    }

    /// How many rows the next append may have: it never crosses a bucket's end.
    pub(crate) fn room(&self) -> usize {
        let next = self.seq().next();
        usize::try_from(next.bucket().last_seq().get() - next.get() + 1).unwrap_or(GROUP_ROWS).min(GROUP_ROWS)
    }

    /// The partition where the next row goes, and what must hold of its head.
    fn condition(&self) -> (Bucket, Condition) {
        let bucket = self.seq().next().bucket();
        let expect = match &self.head {
            Some(head) if bucket == self.bucket => Expect::Guards(head.seq.to_i64(), head.epoch.get()),
            _ => Expect::Absent,
        };
        (bucket, Condition { row: head_key(), expect })
    }
}

/// Appends `rows` (which follow the known head, within one bucket) with the new head, in one conditional write.
pub(crate) async fn append(
    store: &dyn Store,
    key: LogKey,
    known: &Known,
    rows: &[LogRow],
    head: &Head,
) -> Result<Outcome, LogError> {
    debug_assert!(rows.first().is_some_and(|row| row.seq == known.seq().next()) && rows.len() <= known.room());
    let (bucket, condition) = known.condition();
    let changes = rows.iter().map(LogRow::to_row).chain([head.to_row()]).map(Change::Put).collect();
    match store.cas(&schema::LOG, partition(key, bucket), condition, changes).await {
        Ok(Cas::Applied) => Ok(Outcome::Applied),
        Ok(Cas::Refused(_)) => Ok(Outcome::Lost),
        Err(StoreError::Unknown(_)) => Ok(Outcome::Unknown),
        Err(error) => Err(error.into()),
    }
}

/// Raises the epoch, so that no write under the known one can land any more; what is known then. Rows may have landed
/// before: look at them.
pub(crate) async fn fence(
    store: &dyn Store,
    key: LogKey,
    known: &Known,
    writer: IncarnationId,
) -> Result<Known, LogError> {
    let epoch = known.epoch();
    let mut at = known.clone();
    for _ in 0..FENCE_TRIES {
        // A log without a row has nothing to fence: its first append is conditional on that.
        let Some(head) = &at.head else { return Ok(at) };
        if head.epoch.is_sealed() {
            return Err(LogError::Sealed);
        }
        let raised = Head { epoch: epoch.next(), writer, ..head.clone() };
        let (bucket, condition) = at.condition();
        match store.cas(&schema::LOG, partition(key, bucket), condition, vec![Change::Put(raised.to_row())]).await {
            Ok(Cas::Applied) => return Ok(Known { head: Some(raised), bucket }),
            Ok(Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // One's own unknown write, an own fence that wasn't heard of, or somebody else.
        let found = read::head(store, key, at.seq(), Consistency::Serial).await?;
        match found {
            Some(found) if found.head.epoch == epoch => {
                at = Known { head: Some(found.head), bucket: found.bucket };
            }
            Some(found) if found.head.epoch == epoch.next() && found.head.writer == writer => {
                return Ok(Known { head: Some(found.head), bucket: found.bucket });
            }
            Some(_) => return Err(LogError::Contended),
            None => return Err(LogError::Corrupt("a head has disappeared".to_owned())),
        }
    }
    Err(StoreError::Unavailable("a fence could not be written".to_owned()).into())
}
