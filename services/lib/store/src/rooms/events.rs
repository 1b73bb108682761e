//! Where an event stands.

use polity_core::{LogId, LogKey, Position, Seq, Stamp, TenantId};
use ruma_common::EventId;

use crate::{Consistency, Row, Store, StoreError, Value, Values, Write, WriteKind, schema, values_of};

const VERSION: u8 = 1;

/// A log and a row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    /// The log, with the life in which the event was written.
    pub key: LogKey,
    /// The row.
    pub seq: Seq,
}

/// The write that notes where an event stands.
#[must_use]
pub fn put_event(key: LogKey, event_id: &str, seq: Seq) -> Write {
    let columns = vec![Some(Value::from(key.log)), Some(Value::Int(seq.to_i64()))];
    Write {
        table: &schema::EVENTS,
        partition: values_of![key.tenant, event_id],
        row: Row::new(Values::new(), bytes::Bytes::new()).with_columns(columns),
        kind: WriteKind::Projection(Stamp::new(Position::new(key.life, seq), VERSION)),
    }
}

/// Where an event stands.
///
/// # Errors
/// When the store can't be read.
pub async fn place_of_event(
    store: &dyn Store,
    tenant: TenantId,
    event_id: &EventId,
) -> Result<Option<EventPlace>, StoreError> {
    let partition = values_of![tenant, event_id.as_str()];
    let Some(row) = store.get(&schema::EVENTS, partition, Values::new(), Consistency::Quorum).await? else {
        return Ok(None);
    };
    let corrupt = || StoreError::corrupt(schema::EVENTS.name, "an event's place");
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
    let log = column(0).and_then(Value::as_blob).and_then(|log| LogId::from_slice(log).ok()).ok_or_else(corrupt)?;
    let seq = column(1).and_then(Value::as_int).ok_or_else(corrupt)?;
    let life = row.stamp.ok_or_else(corrupt)?.position().life;
    Ok(Some(EventPlace { key: LogKey { tenant, log, life }, seq: Seq::new(seq.cast_unsigned()) }))
}
