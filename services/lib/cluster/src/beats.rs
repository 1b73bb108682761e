//! Signs of life in the store: a counter for each process.

use std::{collections::HashMap, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use polity_core::IncarnationId;
use polity_store::{
    Bounds, Consistency, Durability, Row, Store, StoreError, Value, Write, WriteKind, schema, values_of,
};

/// How often a process raises its counter.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// The counter of one that has ended goes by itself.
const KEPT_S: u32 = 3600;
const CLUSTER: &str = "polity";
const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;

/// Writes a process's counter.
pub(crate) async fn beat(store: &dyn Store, incarnation: IncarnationId, count: u64) -> Result<(), StoreError> {
    let mut value = BytesMut::with_capacity(10);
    value.put_u8(FORMAT);
    value.put_u8(KEY_NONE);
    value.put_u64(count);
    let key = values_of![Bytes::copy_from_slice(incarnation.as_bytes())];
    let write = Write {
        table: &schema::BEATS,
        partition: values_of![CLUSTER],
        row: Row::new(key, value.freeze()),
        kind: WriteKind::Plain { ttl_s: KEPT_S },
    };
    store.put(vec![write], Durability::Rebuildable).await
}

/// All counters.
pub(crate) async fn all(store: &dyn Store) -> Result<HashMap<IncarnationId, u64>, StoreError> {
    let (partition, most) = (values_of![CLUSTER], usize::MAX);
    let all = polity_store::rows(store, &schema::BEATS, partition, Bounds::all(), most, Consistency::Quorum).await?;
    Ok(all.iter().filter_map(read).collect())
}

/// Who writes its counter while it is looked at, for some seconds: processes that run. For who must be the only one.
///
/// # Errors
/// When the store can't be read.
pub async fn alive(store: &dyn Store) -> Result<Vec<IncarnationId>, StoreError> {
    let before = all(store).await?;
    tokio::time::sleep(2 * BEAT + BEAT / 2).await;
    let now = all(store).await?;
    Ok(now
        .into_iter()
        .filter(|(process, count)| before.get(process) != Some(count))
        .map(|(process, _)| process)
        .collect())
}

/// The process that a row is of, and its counter.
pub(crate) fn read(row: &Row) -> Option<(IncarnationId, u64)> {
    let incarnation = IncarnationId::from_slice(row.key.first().and_then(Value::as_blob)?).ok()?;
    let count = row.value.strip_prefix(&[FORMAT, KEY_NONE]).filter(|count| count.len() == 8);
    count.map(|mut count| (incarnation, count.get_u64()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use polity_core::{ManualClock, SystemRandom};
    use polity_store_local::LocalStore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_counts_on_is_alive_and_whose_counter_is_merely_there_is_not() {
        let store = LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap();
        let [runs, dead, new] = [1, 2, 3].map(|number| IncarnationId::new([number; 16]));
        beat(&*store, runs, 7).await.unwrap();
        beat(&*store, dead, 9).await.unwrap();
        assert_eq!(alive(&*store).await.unwrap(), []);
        let later = async {
            tokio::time::sleep(BEAT).await;
            beat(&*store, runs, 8).await.unwrap();
            beat(&*store, new, 1).await.unwrap();
        };
        let (mut found, ()) = tokio::join!(async { alive(&*store).await.unwrap() }, later);
        found.sort();
        assert_eq!(found, [runs, new]);
    }
}
