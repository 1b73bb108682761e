//! Where aliases point: a log-kind row per alias, so that of two who want one exactly one gets it.
//!
//! An alias that is made with its room is reserved first, by the room's id, and settled once the room is there. Whoever dies in
//! between leaves a reservation, which counts for as much as the room: if that came to be the alias points there, and if not it is
//! free again after [`Alias::RESERVED_MS`].

use bytes::{BufMut, BytesMut};
use polity_core::TenantId;
use ruma_common::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId};

use crate::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Row, Store, StoreError, Value, Values, Write,
    WriteKind, pages, schema, values_of,
};

const FORMAT: u8 = 1;
/// Not encrypted.
const KEY_NONE: u8 = 0;
/// Aliases of one room that are told at most: whoever asks looks at each.
const ALIASES: usize = 10_000;

/// What an alias is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasUse {
    /// Nothing any more.
    Free,
    /// It points to its room.
    InUse,
    /// Its room is being made.
    Reserved,
}

/// An alias that is or was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who made it.
    pub creator: String,
    /// What it is used for.
    pub usage: AliasUse,
    /// Since when (Unix milliseconds).
    pub since_ms: u64,
    version: i64,
}

// === impl AliasUse ===

impl AliasUse {
    fn number(self) -> i64 {
        match self {
            Self::Free => 0,
            Self::InUse => 1,
            Self::Reserved => 2,
        }
    }
}

// === impl Alias ===

impl Alias {
    /// No room takes longer to be made: a reservation without room is void then.
    pub const RESERVED_MS: u64 = 5 * 60 * 1000;

    /// Whether somebody else may have it, given whether its room is there.
    #[must_use]
    pub fn is_free(&self, room_exists: bool, now_ms: u64) -> bool {
        match self.usage {
            AliasUse::Free => true,
            // Its room was there, and was purged since.
            AliasUse::InUse => !room_exists,
            AliasUse::Reserved => !room_exists && now_ms.saturating_sub(self.since_ms) > Self::RESERVED_MS,
        }
    }

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(schema::ALIASES.name, "an alias");
        let text = |at: usize| row.columns.get(at).and_then(Option::as_ref).and_then(Value::as_text);
        let (version, state) = row.guards.ok_or_else(corrupt)?;
        let since_ms = match &row.value[..] {
            [FORMAT, KEY_NONE, since @ ..] => since.try_into().map(u64::from_be_bytes).map_err(|_| corrupt())?,
            _ => return Err(corrupt()),
        };
        let usage = [AliasUse::Free, AliasUse::InUse, AliasUse::Reserved].into_iter().find(|u| u.number() == state);
        Ok(Self {
            room_id: text(0).and_then(|id| OwnedRoomId::try_from(id).ok()).ok_or_else(corrupt)?,
            creator: text(1).ok_or_else(corrupt)?.to_owned(),
            usage: usage.ok_or_else(corrupt)?,
            since_ms,
            version,
        })
    }
}

/// An alias, if it was ever made.
///
/// # Errors
/// When the store can't be read.
pub async fn alias(store: &dyn Store, tenant: TenantId, alias: &RoomAliasId) -> Result<Option<Alias>, StoreError> {
    let row = store.get(&schema::ALIASES, partition(tenant, alias), Values::new(), Consistency::Serial).await?;
    row.as_ref().map(Alias::from_row).transpose()
}

/// Takes an alias, in the state in which it was `found`; the new one, or `None` if somebody was faster.
///
/// # Errors
/// When the store can't be written.
pub async fn claim_alias(
    store: &dyn Store,
    tenant: TenantId,
    name: &RoomAliasId,
    found: Option<&Alias>,
    (room_id, creator): (&RoomId, &UserId),
    (usage, now_ms): (AliasUse, u64),
) -> Result<Option<Alias>, StoreError> {
    let version = found.map_or(0, |found| found.version) + 1;
    let (room_id, creator) = (room_id.to_owned(), creator.to_string());
    let new = Alias { room_id, creator, usage, since_ms: now_ms, version };
    // Before the alias itself: without it a room would have an alias that it doesn't know of.
    let hint = Write {
        table: &schema::ROOM_ALIASES,
        partition: values_of![tenant, new.room_id.as_str()],
        row: Row::new(values_of![name.as_str()], bytes::Bytes::from_static(&[FORMAT, KEY_NONE])),
        kind: WriteKind::Plain { ttl_s: 0 },
    };
    store.put(vec![hint], Durability::Acknowledged).await?;
    Ok(write(store, tenant, name, found, &new).await?.then_some(new))
}

/// Lets an alias point to its room, which is there now; whether it was still reserved for it.
///
/// # Errors
/// When the store can't be written.
pub async fn settle_alias(
    store: &dyn Store,
    tenant: TenantId,
    name: &RoomAliasId,
    reserved: &Alias,
) -> Result<bool, StoreError> {
    let new = Alias { usage: AliasUse::InUse, version: reserved.version + 1, ..reserved.clone() };
    write(store, tenant, name, Some(reserved), &new).await
}

/// Gives an alias up; whether it was still as it was `found`.
///
/// # Errors
/// When the store can't be written.
pub async fn release_alias(
    store: &dyn Store,
    tenant: TenantId,
    name: &RoomAliasId,
    found: &Alias,
) -> Result<bool, StoreError> {
    let new = Alias { usage: AliasUse::Free, version: found.version + 1, ..found.clone() };
    write(store, tenant, name, Some(found), &new).await
}

async fn write(
    store: &dyn Store,
    tenant: TenantId,
    name: &RoomAliasId,
    found: Option<&Alias>,
    new: &Alias,
) -> Result<bool, StoreError> {
    let expect = found.map_or(Expect::Absent, |found| Expect::Guards(found.version, found.usage.number()));
    let mut value = BytesMut::with_capacity(10);
    value.put_slice(&[FORMAT, KEY_NONE]);
    value.put_u64(new.since_ms);
    let row = Row::new(Values::new(), value.freeze())
        .guarded(new.version, new.usage.number())
        .with_columns(vec![Some(new.room_id.as_str().into()), Some(new.creator.as_str().into())]);
    let condition = Condition { row: Values::new(), expect };
    let changes = vec![Change::Put(row)];
    Ok(store.cas(&schema::ALIASES, partition(tenant, name), condition, changes).await? == Cas::Applied)
}

/// Aliases that were made for a room at some time: each is to be asked where it points.
///
/// # Errors
/// When the store can't be read.
pub async fn aliases_of(
    store: &dyn Store,
    tenant: TenantId,
    room_id: &RoomId,
) -> Result<Vec<OwnedRoomAliasId>, StoreError> {
    let partition = values_of![tenant, room_id.as_str()];
    let rows =
        pages::rows(store, &schema::ROOM_ALIASES, partition, Bounds::all(), ALIASES, Consistency::Quorum).await?;
    let name = |row: &Row| row.key.first()?.as_text().and_then(|alias| RoomAliasId::parse(alias).ok());
    Ok(rows.iter().filter_map(name).collect())
}

fn partition(tenant: TenantId, alias: &RoomAliasId) -> Values {
    values_of![tenant, alias.as_str()]
}
