//! Which rows of a room are redacted, by the bucket of the redacted row.

use std::ops::Bound;

use polity_core::{Bucket, LogKey, Position, Seq, Stamp};
use ruma_common::OwnedEventId;

use crate::{Bounds, Consistency, Row, Store, StoreError, Value, Write, WriteKind, schema, values, values_of};

const VERSION: u8 = 1;

/// The write that notes a redaction: of the row `target`, by the event at `position`. The first effective one stays, so the stamp
/// falls with the position.
#[must_use]
pub fn put_redaction(key: LogKey, target: Seq, position: Position, by: &str) -> Write {
    let first_wins = Position::new(position.life, Seq::new(Seq::MAX.get() - position.seq.get()));
    Write {
        table: &schema::REDACTIONS,
        partition: values_of![key.tenant, key.log, target.bucket().to_i64()],
        row: Row::new(values_of![target.to_i64()], bytes::Bytes::new()).with_columns(vec![Some(Value::from(by))]),
        kind: WriteKind::Projection(Stamp::new(first_wins, VERSION)),
    }
}

/// Drops the redactions of a bucket's rows, in a room that is purged.
///
/// # Errors
/// They may or may not be gone.
pub async fn drop_redactions(store: &dyn Store, key: LogKey, bucket: Bucket) -> Result<(), StoreError> {
    store.drop_partition(&schema::REDACTIONS, values_of![key.tenant, key.log, bucket.to_i64()]).await
}

/// A row that is redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The row.
    pub seq: Seq,
    /// The event that redacted it first.
    pub by: OwnedEventId,
    /// On which row that stands: before it the row wasn't redacted.
    pub at: Seq,
}

/// The redacted ones of the rows `first..=last`, which stand in one bucket.
///
/// # Errors
/// When the store can't be read.
pub async fn redactions_between(
    store: &dyn Store,
    key: LogKey,
    first: Seq,
    last: Seq,
) -> Result<Vec<Redacted>, StoreError> {
    debug_assert_eq!(first.bucket(), last.bucket(), "one partition an access");
    let partition = values_of![key.tenant, key.log, first.bucket().to_i64()];
    let bounds = Bounds {
        from: Bound::Included(values([Value::Int(first.to_i64())])),
        to: Bound::Included(values([Value::Int(last.to_i64())])),
        reverse: false,
    };
    let page = store.scan(&schema::REDACTIONS, partition, bounds, 1024, Consistency::Quorum).await?;
    page.rows
        .iter()
        .map(|row| {
            let seq = row.key.first().and_then(Value::as_int);
            let by = row.columns.first().and_then(Option::as_ref).and_then(Value::as_text);
            let by = by.and_then(|by| OwnedEventId::try_from(by).ok());
            let at = row.stamp.map(|stamp| Seq::new(Seq::MAX.get() - stamp.position().seq.get()));
            let redacted = seq.map(|seq| Seq::new(seq.cast_unsigned())).zip(by).zip(at);
            let redacted = redacted.map(|((seq, by), at)| Redacted { seq, by, at });
            redacted.ok_or_else(|| StoreError::corrupt(schema::REDACTIONS.name, "a redaction"))
        })
        .collect()
}
