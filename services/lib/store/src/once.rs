//! Names that may be used once, whoever asks: nonces.

use bytes::Bytes;
use polity_core::TenantId;

use crate::{Cas, Change, Condition, Expect, Row, Store, StoreError, schema, values_of};

const HOUR_MS: u64 = 60 * 60 * 1000;
/// One in so many uses clears up.
const DROP_EVERY: u64 = 16;

/// Uses a name that was made at `made_ms`, at most an hour ago; `false` if it was used before. Of two at once one succeeds.
///
/// # Errors
/// [`StoreError::Unknown`]: perhaps it counts as used now.
pub async fn use_once(
    store: &dyn Store,
    tenant: TenantId,
    usage: &str,
    name: &str,
    made_ms: u64,
) -> Result<bool, StoreError> {
    let hour = i64::try_from(made_ms / HOUR_MS).unwrap_or(i64::MAX);
    let row = Row::new(values_of![name], Bytes::new()).guarded(1, 0);
    let absent = Condition { row: row.key.clone(), expect: Expect::Absent };
    let change = vec![Change::Put(row)];
    let cas = store.cas(&schema::USED_ONCE, values_of![tenant, usage, hour], absent, change).await?;
    // Names of the hour before the last are too old to be accepted: now and then that hour is dropped.
    if made_ms.is_multiple_of(DROP_EVERY) {
        store.drop_partition(&schema::USED_ONCE, values_of![tenant, usage, hour - 2]).await?;
    }
    Ok(cas == Cas::Applied)
}
