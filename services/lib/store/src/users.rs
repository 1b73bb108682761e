//! What the store knows of users beside their records.

use polity_core::{Position, Stamp, TenantId};
use ruma_common::{EventId, OwnedEventId, RoomId, UserId};

use crate::{
    Bounds, Consistency, Durability, Row, Store, StoreError, Value, Write, WriteKind, codec, pages, schema, values_of,
};

const VERSION: u8 = 1;
/// A user's own receipts in one room that are read. Whoever reads chooses the threads: there may be any number.
const RECEIPTS: usize = 10_000;

/// How far a user has read a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnReceipt {
    /// The event.
    pub event_id: OwnedEventId,
    /// Where it stands.
    pub position: Position,
    /// Its thread: empty for none, `main`, or a thread's root.
    pub thread: String,
    /// `m.read` or `m.read.private`.
    pub kind: String,
}

/// Notes a user's own receipt. It never moves back: the greatest position stays.
///
/// # Errors
/// When the store can't be written.
pub async fn put_own_receipt(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
    (kind, thread): (&str, &str),
    (event_id, position): (&EventId, Position),
) -> Result<(), StoreError> {
    let write = Write {
        table: &schema::OWN_RECEIPTS,
        partition: values_of![tenant, user_id.as_str()],
        row: Row::new(values_of![room_id.as_str(), thread, kind], codec::encode(schema::OWN_RECEIPTS.name, &())?)
            .with_columns(vec![Some(Value::from(event_id.as_str()))]),
        kind: WriteKind::Projection(Stamp::new(position, VERSION)),
    };
    store.put(vec![write], Durability::Acknowledged).await
}

/// A user's own receipts in a room: those about everything and about the main timeline, and those of 10,000 threads or so.
///
/// # Errors
/// When the store can't be read.
pub async fn own_receipts(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    room_id: &RoomId,
) -> Result<Vec<OwnReceipt>, StoreError> {
    let partition = values_of![tenant, user_id.as_str()];
    let bounds = Bounds::prefix(values_of![room_id.as_str()]);
    let rows = async |bounds| {
        pages::rows(store, &schema::OWN_RECEIPTS, partition.clone(), bounds, RECEIPTS, Consistency::Quorum).await
    };
    let mut found = rows(bounds).await?;
    if found.len() == RECEIPTS {
        // Cut off in the order of threads, where everything (an empty name) comes first and the main timeline after the roots: that
        // one is read by its name, for no number of threads may hide it.
        found.retain(|row| row.key.get(1).and_then(Value::as_text) != Some("main"));
        found.extend(rows(Bounds::prefix(values_of![room_id.as_str(), "main"])).await?);
    }
    let read = |row: &Row| {
        let text = |at: usize| row.key.get(at).and_then(Value::as_text).map(str::to_owned);
        let event_id = row.columns.first().and_then(Option::as_ref).and_then(Value::as_text);
        Some(OwnReceipt {
            event_id: OwnedEventId::try_from(event_id?).ok()?,
            position: row.stamp?.position(),
            thread: text(1)?,
            kind: text(2)?,
        })
    };
    let corrupt = || StoreError::corrupt(schema::OWN_RECEIPTS.name, "a receipt");
    found.iter().map(|row| read(row).ok_or_else(corrupt)).collect()
}

/// Somebody's receipt, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayReceipt {
    /// Whose.
    pub user_id: ruma_common::OwnedUserId,
    /// The event.
    pub event_id: OwnedEventId,
    /// Its thread: empty for none.
    pub thread: String,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// When it was made (Unix milliseconds).
    pub at_ms: u64,
}

/// Notes a receipt for display.
///
/// # Errors
/// When the store can't be written.
pub async fn put_display_receipt(
    store: &dyn Store,
    key: polity_core::LogKey,
    receipt: &DisplayReceipt,
    position: Position,
) -> Result<(), StoreError> {
    let write = Write {
        table: &schema::RECEIPTS,
        partition: values_of![key.tenant, key.log],
        row: Row::new(
            values_of![receipt.user_id.as_str(), receipt.kind.as_str(), receipt.thread.as_str()],
            codec::encode(schema::RECEIPTS.name, &receipt.at_ms)?,
        )
        .with_columns(vec![Some(Value::from(receipt.event_id.as_str()))]),
        kind: WriteKind::Projection(Stamp::new(position, VERSION)),
    };
    store.put(vec![write], Durability::Rebuildable).await
}

/// The receipts of a room for display, at most 1,000.
///
/// # Errors
/// When the store can't be read.
pub async fn display_receipts(store: &dyn Store, key: polity_core::LogKey) -> Result<Vec<DisplayReceipt>, StoreError> {
    let partition = values_of![key.tenant, key.log];
    let page = store.scan(&schema::RECEIPTS, partition, Bounds::all(), 1000, Consistency::Quorum).await?;
    let mut receipts = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let at_ms = codec::decode(schema::RECEIPTS.name, &row.value)?;
        let text = |at: usize| row.key.get(at).and_then(Value::as_text);
        let event_id = row.columns.first().and_then(Option::as_ref).and_then(Value::as_text);
        let (Some(user), Some(kind), Some(thread), Some(event)) = (text(0), text(1), text(2), event_id) else {
            continue;
        };
        let (Ok(user_id), Ok(event_id)) = (user.try_into(), event.try_into()) else { continue };
        receipts.push(DisplayReceipt { user_id, event_id, thread: thread.to_owned(), kind: kind.to_owned(), at_ms });
    }
    Ok(receipts)
}
