//! The writes of a log: the append (which may trim), the fence, and what clears trimmed buckets.

use polity_core::{
    Bucket, Epoch, IncarnationId, LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_store::{Cas, Change, Condition, Consistency, Expect, Store, StoreError, Value, schema};

use crate::{
    LogError,
    invariant::check_rows,
    read::{self, Found, partition},
    types::{Head, LogRow, head_key},
};

/// Rows in one append.
pub const GROUP_ROWS: usize = 64;
/// Bytes in one append.
pub const GROUP_BYTES: usize = 256 * 1024;
/// A fence is tried this often before the store counts as unavailable.
pub(crate) const FENCE_TRIES: usize = 16;

/// What a writer knows of the head that it extends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) head: Head,
    /// The bucket in which that head stands; none of a log that was never written, which counts as epoch 0.
    bucket: Option<Bucket>,
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
    /// What is known after a read.
    pub(crate) fn from_read(found: Option<Found>) -> Self {
        match found {
            Some(Found { head, bucket }) => Self { head, bucket: Some(bucket) },
            None => {
                let (epoch, writer) = (Epoch::new(Epoch::FIRST.get() - 1), IncarnationId::new([0; 16]));
                let head = Head { seq: Seq::ZERO, epoch, first: Seq::new(1), writer, state: bytes::Bytes::new() };
                Self { head, bucket: None }
            }
        }
    }

    pub(crate) fn seq(&self) -> Seq {
        self.head.seq
    }

    /// Whether the log was sealed: nobody appends to it or fences it any more.
    pub(crate) fn is_sealed(&self) -> bool {
        self.head.epoch.is_sealed() && !planted(Mutation::SealIsEpoch)
    }

    /// Where the head stands; of a log that was never written, where it would.
    pub(crate) fn bucket(&self) -> Bucket {
        self.bucket.unwrap_or(Bucket::FIRST)
    }

    /// The head, unless the log has no row yet: a fence may have come first.
    pub(crate) fn of_rows(&self) -> Option<&Head> {
        (self.head.seq > Seq::ZERO).then_some(&self.head)
    }

    /// Under which epoch the next rows stand.
    pub(crate) fn epoch(&self) -> Epoch {
        self.head.epoch.max(Epoch::FIRST)
    }

    /// Whether `writer` (or nobody) wrote the head: nobody else is about to extend it.
    pub(crate) fn is_own(&self, writer: IncarnationId) -> bool {
        self.bucket.is_none() || self.head.writer == writer
    }

    /// How many rows the next append may have: it never crosses a bucket's end.
    pub(crate) fn room(&self) -> usize {
        let next = self.seq().next();
        if planted(Mutation::GroupAcrossBuckets) {
            return GROUP_ROWS;
        }
        usize::try_from(next.bucket().last_seq().get() - next.get() + 1).unwrap_or(GROUP_ROWS).min(GROUP_ROWS)
    }

    /// What is known once `head` was written: it stands where the next row went.
    pub(crate) fn extended(&self, head: Head) -> Self {
        Self { head, bucket: Some(self.seq().next().bucket()) }
    }

    /// Whether everything in `bucket` is older than the head's bucket.
    pub(crate) fn is_behind(&self, bucket: Bucket) -> bool {
        self.bucket.is_some_and(|own| bucket < own)
    }

    /// The partition where the next row goes, and what must hold of its head.
    pub(crate) fn condition(&self) -> (Bucket, Condition) {
        let bucket = self.seq().next().bucket();
        let expect = if self.bucket == Some(bucket) {
            Expect::Guards(self.seq().to_i64(), self.head.epoch.get())
        } else {
            Expect::Absent
        };
        (bucket, Condition { row: head_key(), expect })
    }
}

/// Appends `rows` (which follow the known head, within one bucket; none if the head's epoch is a new one) with the new head, in one
/// conditional write. The rows of the same bucket that are older than the new head's `first` go with it.
pub(crate) async fn append(
    store: &dyn Store,
    key: LogKey,
    known: &Known,
    rows: &[LogRow],
    head: &Head,
) -> Result<Outcome, LogError> {
    debug_assert_eq!(check_rows(known.seq(), rows, head.seq), Ok(()), "of a group of {key}");
    debug_assert!(rows.len() <= known.room() && (head.epoch > known.epoch() || !rows.is_empty()));
    let (bucket, condition) = known.condition();
    let gone = gone(bucket, known.head.first, head.first);
    let changes =
        gone.into_iter().chain(rows.iter().map(LogRow::to_row).chain([head.to_row()]).map(Change::Put)).collect();
    let condition =
        if planted(Mutation::PlainAppend) { as_it_stands(store, key, bucket, condition).await? } else { condition };
    match store.cas(&schema::LOG, partition(key, bucket), condition, changes).await {
        Ok(Cas::Applied) => Ok(Outcome::Applied),
        Ok(Cas::Refused(_)) => Ok(Outcome::Lost),
        Err(StoreError::Unknown(_)) if planted(Mutation::UnknownIsLost) => Ok(Outcome::Lost),
        Err(StoreError::Unknown(_)) => Ok(Outcome::Unknown),
        Err(error) => Err(error.into()),
    }
}

/// A condition that holds whatever the head is ([`Mutation::PlainAppend`]).
async fn as_it_stands(
    store: &dyn Store,
    key: LogKey,
    bucket: Bucket,
    condition: Condition,
) -> Result<Condition, LogError> {
    let found = read::in_bucket(store, key, bucket, Consistency::Serial).await?;
    let guards = |found: Found| Expect::Guards(found.head.seq.to_i64(), found.head.epoch.get());
    Ok(Condition { expect: found.map_or(Expect::Absent, guards), ..condition })
}

/// The rows `first..end` as far as they stand in `bucket`, to be deleted.
fn gone(bucket: Bucket, first: Seq, end: Seq) -> Option<Change> {
    let first = first.max(bucket.first_seq());
    let end = end.min(bucket.next().first_seq());
    let int = |seq: u64| Value::Int(Seq::new(seq).to_i64());
    (first < end).then(|| Change::DeleteRange { first: int(first.get()), last: int(end.get() - 1) })
}

/// Deletes the rows before `end` in a bucket that is full and has a successor: its own head, which stays, never changes again.
pub(crate) async fn clear(store: &dyn Store, key: LogKey, bucket: Bucket, end: Seq) -> Result<(), LogError> {
    let Some(found) = read::in_bucket(store, key, bucket, Consistency::Quorum).await? else { return Ok(()) };
    let Some(gone) = gone(bucket, bucket.first_seq(), end) else { return Ok(()) };
    let expect = Expect::Guards(found.head.seq.to_i64(), found.head.epoch.get());
    store.cas(&schema::LOG, partition(key, bucket), Condition { row: head_key(), expect }, vec![gone]).await?;
    Ok(())
}

/// Raises the epoch, so that no write under the known one can land any more; what is known then. Rows may have landed
/// before: look at them.
///
/// It is written again until it is known to stand, and always over the epoch that is known: whoever finds another one, and not by
/// his own fence, must begin with a new activation.
///
/// # Errors
/// [`LogError::Contended`] when somebody else has raised the epoch, [`LogError::Sealed`]: what is under way can't land any more then,
/// either. Any other: it still may.
pub(crate) async fn fence(
    store: &dyn Store,
    key: LogKey,
    known: &Known,
    writer: IncarnationId,
) -> Result<Known, LogError> {
    if planted(Mutation::FenceByRead) {
        return Ok(Known::from_read(read::newest(store, key, known.seq(), Consistency::Serial).await?));
    }
    let (old, mut new) = (known.head.epoch, known.head.epoch.next());
    if planted(Mutation::FenceKeepsEpoch) {
        new = old;
    }
    let mut at = known.clone();
    for _ in 0..FENCE_TRIES {
        let raised = Head { epoch: new, writer, ..at.head.clone() };
        let (bucket, condition) = at.condition();
        if let Some(full) = at.bucket.filter(|full| planted(Mutation::FenceOnFullBucket) && *full != bucket) {
            let expect = Expect::Guards(at.seq().to_i64(), old.get());
            let (condition, fence) = (Condition { expect, ..condition }, Change::Put(raised.to_row()));
            store.cas(&schema::LOG, partition(key, full), condition, vec![fence]).await?;
            return Ok(Known { head: raised, bucket: Some(full) });
        }
        match store.cas(&schema::LOG, partition(key, bucket), condition, vec![Change::Put(raised.to_row())]).await {
            Ok(Cas::Applied) => return Ok(at.extended(raised)),
            // One's own unknown write, an own fence that wasn't heard of, or somebody else.
            Ok(Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
        at = Known::from_read(read::newest(store, key, at.seq(), Consistency::Serial).await?);
        match at.head.epoch {
            epoch if epoch.is_sealed() && !planted(Mutation::SealIsEpoch) => return Err(LogError::Sealed),
            epoch if epoch == old => {}
            epoch if epoch == new && at.head.writer == writer => return Ok(at),
            _ => return Err(LogError::Contended),
        }
    }
    Err(StoreError::Unavailable("a fence could not be written".to_owned()).into())
}
