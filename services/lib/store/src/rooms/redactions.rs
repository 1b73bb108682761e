//! Which rows of a room are redacted, by the bucket of the redacted row.

use std::ops::Bound;

use polity_core::{LogKey, Position, Seq, Stamp};
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

/// The redacted ones of the rows `first..=last`, which stand in one bucket, with the events that redacted them.
///
/// # Errors
/// When the store can't be read.
pub async fn redactions_between(
    store: &dyn Store,
    key: LogKey,
    first: Seq,
    last: Seq,
) -> Result<Vec<(Seq, OwnedEventId)>, StoreError> {
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
            let pair = seq.map(|seq| Seq::new(seq.cast_unsigned())).zip(by);
            pair.ok_or_else(|| StoreError::corrupt(schema::REDACTIONS.name, "a redaction"))
        })
        .collect()
}
