//! Reading a log: by a hint to its newest bucket that may be old and is never wrong, and only as far as rows are dense.

use std::ops::Bound;

use polity_core::{
    Bucket, LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_store::{Bounds, Consistency, Store, Value, Values, schema, values, values_of};

use crate::{
    LogError,
    types::{Head, LogRow, head_key},
};

/// Buckets stepped over when a hint is old: more would be a damaged log.
const STEPS: u64 = 1 << 24;

/// A head and the bucket in which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The head.
    pub head: Head,
    /// Its bucket.
    pub bucket: Bucket,
}

pub(crate) fn partition(key: LogKey, bucket: Bucket) -> Values {
    values_of![key.tenant, key.log, bucket.to_i64()]
}

/// Up to where the log's projections are known to be written: a hint to its newest bucket, too.
///
/// # Errors
/// When the store can't be read.
pub async fn projected_seq(store: &dyn Store, key: LogKey) -> Result<Seq, LogError> {
    let row =
        store.get(&schema::PROJECTED, values_of![key.tenant, key.log], Values::new(), Consistency::Quorum).await?;
    let seq = row.and_then(|row| row.columns.first().cloned().flatten()).and_then(|column| column.as_int());
    Ok(Seq::new(seq.unwrap_or(0).cast_unsigned()))
}

/// The log's head; `None` if it has no row yet.
///
/// # Errors
/// When the store can't be read or the head isn't understood; [`LogError::Sealed`].
pub async fn head(
    store: &dyn Store,
    key: LogKey,
    hint: Seq,
    consistency: Consistency,
) -> Result<Option<Found>, LogError> {
    let found = newest(store, key, hint, consistency).await?;
    if found.as_ref().is_some_and(|found| found.head.epoch.is_sealed()) {
        return Err(LogError::Sealed);
    }
    Ok(found.filter(|found| found.head.seq > Seq::ZERO))
}

/// The newest head, also one that a fence wrote before there was a row.
pub(crate) async fn newest(
    store: &dyn Store,
    key: LogKey,
    hint: Seq,
    consistency: Consistency,
) -> Result<Option<Found>, LogError> {
    let mut found = in_bucket(store, key, hint.bucket(), consistency).await?;
    if found.is_none() && hint.bucket() > Bucket::FIRST {
        // A hint is a row that was there: its bucket can't be absent, unless the log was purged.
        found = in_bucket(store, key, Bucket::FIRST, consistency).await?;
    }
    let Some(mut newest) = found else { return Ok(None) };
    for _ in 0..STEPS {
        if newest.head.seq < newest.bucket.last_seq() {
            break;
        }
        match in_bucket(store, key, newest.bucket.next(), consistency).await? {
            Some(next) => newest = next,
            None => break,
        }
    }
    Ok(Some(newest))
}

pub(crate) async fn in_bucket(
    store: &dyn Store,
    key: LogKey,
    bucket: Bucket,
    consistency: Consistency,
) -> Result<Option<Found>, LogError> {
    let row = store.get(&schema::LOG, partition(key, bucket), head_key(), consistency).await?;
    row.map(|row| Ok(Found { head: Head::from_row(&row)?, bucket })).transpose()
}

/// The rows after `after`, oldest first, at most `limit` of them and without a hole; where rows were trimmed, those after them.
///
/// # Errors
/// When the store can't be read or a row isn't understood.
pub async fn after(
    store: &dyn Store,
    key: LogKey,
    after: Seq,
    limit: usize,
    mut consistency: Consistency,
) -> Result<Vec<LogRow>, LogError> {
    let mut rows: Vec<LogRow> = Vec::new();
    let mut next = after.next();
    while rows.len() < limit {
        let begin = next;
        let page = slice(store, key, next, limit - rows.len(), consistency).await?;
        for row in page.rows {
            if row.seq != next {
                break;
            }
            next = next.next();
            rows.push(row);
        }
        if (page.more && next > begin) || next.bucket() > begin.bucket() {
            continue;
        }
        if !page.more && page.head.is_none_or(|head| head.seq < next) {
            break;
        }
        // There is more, but not what comes next: a row may be seen later than others or than its head, or was trimmed.
        if consistency != Consistency::Serial {
            consistency = Consistency::Serial;
            continue;
        }
        let first = newest(store, key, next, consistency).await?.map_or(Seq::ZERO, |found| found.head.first);
        if first <= next || !rows.is_empty() {
            break;
        }
        next = first;
    }
    Ok(rows)
}

/// Some of the rows of one bucket from a number on, with holes or without, and where to go on, if there may be more.
pub(crate) async fn some_of(
    store: &dyn Store,
    key: LogKey,
    from: Seq,
    limit: usize,
) -> Result<(Vec<LogRow>, Option<Seq>), LogError> {
    let bounds = Bounds {
        from: Bound::Included(values([Value::Int(from.to_i64())])),
        to: Bound::Excluded(head_key()),
        reverse: false,
    };
    let page = store.scan(&schema::LOG, partition(key, from.bucket()), bounds, limit, Consistency::Serial).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        rows.extend(LogRow::from_row(row)?);
    }
    let next = rows.last().filter(|_| page.more).map(|row| row.seq.next());
    // A full bucket's last row is followed by none of its own.
    Ok((rows, next.filter(|next| next.bucket() == from.bucket())))
}

/// Some rows of one bucket, and its head unless there are more.
struct Slice {
    rows: Vec<LogRow>,
    head: Option<Head>,
    more: bool,
}

async fn slice(
    store: &dyn Store,
    key: LogKey,
    from: Seq,
    limit: usize,
    consistency: Consistency,
) -> Result<Slice, LogError> {
    let bounds = Bounds {
        from: Bound::Included(values([Value::Int(from.to_i64())])),
        to: Bound::Included(head_key()),
        reverse: false,
    };
    let page = store.scan(&schema::LOG, partition(key, from.bucket()), bounds, limit + 1, consistency).await?;
    let mut slice = Slice { rows: Vec::with_capacity(page.rows.len()), head: None, more: page.more };
    for row in page.rows {
        if row.key == head_key() {
            slice.head = Some(Head::from_row(&row)?);
        } else if slice.rows.len() < limit {
            slice.rows.extend(LogRow::from_row(row)?);
        } else {
            slice.more = true;
        }
    }
    Ok(slice)
}

/// The rows up to `from`, newest first, at most `limit` of them and without a hole.
///
/// # Errors
/// When the store can't be read or a row isn't understood.
pub async fn back(store: &dyn Store, key: LogKey, from: Seq, limit: usize) -> Result<Vec<LogRow>, LogError> {
    let (mut rows, mut next, mut consistency) = (Vec::<LogRow>::new(), from, Consistency::Quorum);
    while rows.len() < limit && next > Seq::ZERO {
        let begin = next;
        let bounds =
            Bounds { from: Bound::Unbounded, to: Bound::Included(values([Value::Int(next.to_i64())])), reverse: true };
        let partition = partition(key, begin.bucket());
        let page = store.scan(&schema::LOG, partition, bounds, limit - rows.len(), consistency).await?;
        for row in page.rows {
            let Some(row) = LogRow::from_row(row)? else { continue };
            if rows.is_empty() && planted(Mutation::HeadBeforeRows) {
                next = row.seq;
            }
            if row.seq != next {
                break;
            }
            next = Seq::new(next.get() - 1);
            rows.push(row);
        }
        if next < begin && (page.more || next.bucket() < begin.bucket()) {
            continue;
        }
        // Something is there, but not what comes next: a row may be seen later than others or than the head that told of it.
        if rows.len() < limit && next > Seq::ZERO {
            match consistency {
                Consistency::Serial => break,
                _ => consistency = Consistency::Serial,
            }
        }
    }
    Ok(rows)
}
