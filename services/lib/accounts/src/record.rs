//! A user's record: the log of changes of entries, and the entries as they stand.

use bytes::Bytes;
use polity_core::{Life, LogId, LogKey, Position, Seq, Stamp, TenantId};
use polity_log::{LogError, LogRow, read};
use polity_store::{Bounds, Consistency, Row, Store, StoreError, Value, Write, WriteKind, schema, values, values_of};
use ruma_common::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Error;

mod machine;
pub(crate) mod usage;

pub(crate) use machine::{Append, Must, RecordMachine, Refused};

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;
const VERSION: u8 = 1;

/// Kinds of entries.
pub(crate) mod kind {
    pub(crate) const ACCOUNT: &str = "account";
    pub(crate) const PROFILE: &str = "profile";
    pub(crate) const ACCOUNT_DATA: &str = "account_data";
    /// How much of it there is.
    pub(crate) const USAGE: &str = "usage";
    pub(crate) const DEVICE: &str = "device";
    pub(crate) const DEVICE_KEYS: &str = "device_keys";
    pub(crate) const CROSS_SIGNING: &str = "cross_signing";
    pub(crate) const SIGNATURES: &str = "signatures";
    pub(crate) const FALLBACK: &str = "fallback";
    /// The algorithms for which a device ever uploaded one-time keys.
    pub(crate) const ONE_TIME: &str = "one_time";
    /// What a change still owes. See [`crate::jobs`].
    pub(crate) const JOB: &str = "job";
}

/// An entry's kind, scope and key.
pub(crate) type Name = [Box<str>; 3];

/// One entry set, or (without value) removed. The user's id goes with it: a projection is a function of rows alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of entry.
    pub kind: String,
    /// Its scope within the kind: a room, a device, or empty.
    pub scope: String,
    /// Its key within the scope.
    pub key: String,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// An entry as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its scope.
    pub scope: String,
    /// Its key.
    pub key: String,
    /// Its value; `None`: removed.
    pub value: Option<Vec<u8>>,
    /// The row that said so.
    pub seq: Seq,
}

#[derive(Serialize, Deserialize)]
struct Changes {
    user_id: String,
    changes: Vec<Change>,
}

impl Change {
    pub(crate) fn new(kind: &str, scope: &str, key: &str, value: Option<Vec<u8>>) -> Self {
        Self { kind: kind.to_owned(), scope: scope.to_owned(), key: key.to_owned(), value }
    }

    /// Which entry it sets.
    pub(crate) fn name(&self) -> Name {
        name((&self.kind, &self.scope, &self.key))
    }

    /// An entry with an encoded value.
    pub(crate) fn set<T: Serialize>(kind: &str, scope: &str, key: &str, value: &T) -> Result<Self, Error> {
        let value = postcard::to_stdvec(value).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self::new(kind, scope, key, Some(value)))
    }
}

impl Entry {
    /// That it is still the same.
    pub(crate) fn same(&self, of: (&str, &str, &str)) -> Must {
        Must::Same { name: name(of), seen: Some(self.seq) }
    }

    /// The value, decoded.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let damaged = |error: postcard::Error| StoreError::corrupt(schema::USER_RECORD.name, error.to_string());
        Ok(self.value.as_ref().map(|value| postcard::from_bytes(value)).transpose().map_err(damaged)?)
    }
}

pub(crate) fn name((kind, scope, key): (&str, &str, &str)) -> Name {
    [kind.into(), scope.into(), key.into()]
}

/// The log of a user's record.
pub(crate) fn log(tenant: TenantId, user_id: &UserId) -> LogKey {
    LogKey { tenant, log: LogId::derived(tenant, "user", user_id.as_str()), life: Life::FIRST }
}

/// The body of a row.
fn encode(user_id: &UserId, changes: Vec<Change>) -> Result<Bytes, Error> {
    let changes = Changes { user_id: user_id.to_string(), changes };
    let bytes = postcard::to_extend(&changes, vec![FORMAT, KEY_NONE]);
    bytes.map(Bytes::from).map_err(|error| Error::Internal(error.to_string()))
}

fn decode(body: &[u8]) -> Result<Changes, LogError> {
    match body {
        [FORMAT, KEY_NONE, rest @ ..] => {
            postcard::from_bytes(rest).map_err(|error| LogError::Corrupt(error.to_string()))
        }
        _ => Err(LogError::Corrupt("a record's row of an unknown format".to_owned())),
    }
}

/// The machine's part of the head: whose record it is.
fn head(user_id: Option<&UserId>) -> Bytes {
    [&[FORMAT, KEY_NONE][..], user_id.map_or(&[], UserId::as_bytes)].concat().into()
}

pub(crate) fn head_user(state: &[u8]) -> Result<OwnedUserId, LogError> {
    let user_id = match state {
        [FORMAT, KEY_NONE, user_id @ ..] => std::str::from_utf8(user_id).ok(),
        _ => None,
    };
    let parsed = user_id.and_then(|user_id| OwnedUserId::try_from(user_id).ok());
    parsed.ok_or_else(|| LogError::Corrupt("a record's head of an unknown format".to_owned()))
}

/// The entries that a row sets.
pub(crate) fn project(key: LogKey, row: &LogRow) -> Result<Vec<Write>, LogError> {
    let Changes { user_id, changes } = decode(&row.body)?;
    let kind = WriteKind::Projection(Stamp::new(Position::new(key.life, row.seq), VERSION));
    let write = |change: Change| {
        let value = match change.value {
            // A byte before the value tells a removed entry from an empty one.
            Some(value) => [&[FORMAT, KEY_NONE, 1][..], &value].concat(),
            None => vec![FORMAT, KEY_NONE, 0],
        };
        let key_columns = values([change.kind.into(), change.scope.into(), change.key.into()]);
        let partition = values_of![key.tenant, user_id.as_str()];
        Write { table: &schema::USER_RECORD, partition, row: Row::new(key_columns, value.into()), kind }
    };
    Ok(changes.into_iter().map(write).collect())
}

/// The entries of a kind (and scope), removed ones too.
pub(crate) async fn entries(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    kind: &str,
    scope: Option<&str>,
) -> Result<Vec<Entry>, Error> {
    let prefix = match scope {
        Some(scope) => values_of![kind, scope],
        None => values_of![kind],
    };
    let (partition, bounds) = (values_of![tenant, user_id.as_str()], Bounds::prefix(prefix));
    let rows =
        polity_store::rows(store, &schema::USER_RECORD, partition, bounds, usize::MAX, Consistency::Quorum).await?;
    rows.iter().map(read_entry).collect()
}

/// One entry, unless it was never set.
pub(crate) async fn entry(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    (kind, scope, key): (&str, &str, &str),
) -> Result<Option<Entry>, Error> {
    let partition = values_of![tenant, user_id.as_str()];
    let row = store.get(&schema::USER_RECORD, partition, values_of![kind, scope, key], Consistency::Quorum).await?;
    row.as_ref().map(read_entry).transpose()
}

/// One entry, for deciding.
async fn held(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    [kind, scope, key]: &Name,
) -> Result<Option<Entry>, LogError> {
    entry(store, tenant, user_id, (kind, scope, key)).await.map_err(LogError::from)
}

pub(crate) fn read_entry(row: &Row) -> Result<Entry, Error> {
    let corrupt = || StoreError::corrupt(schema::USER_RECORD.name, "an entry");
    let text = |at: usize| row.key.get(at).and_then(Value::as_text).map(str::to_owned).ok_or_else(corrupt);
    let value = match &row.value[..] {
        [FORMAT, KEY_NONE, 1, rest @ ..] => Some(rest.to_vec()),
        [FORMAT, KEY_NONE, 0] => None,
        _ => return Err(corrupt().into()),
    };
    Ok(Entry { scope: text(1)?, key: text(2)?, value, seq: row.stamp.ok_or_else(corrupt)?.position().seq })
}

/// What changed after a position, oldest first, and the position then; at most some hundreds of rows at once, with `true` if there
/// are more.
pub(crate) async fn changes_after(
    store: &dyn Store,
    tenant: TenantId,
    user_id: &UserId,
    after: Seq,
) -> Result<(Vec<Change>, Seq, bool), Error> {
    const PAGE: usize = 500;
    let rows = read::after(store, log(tenant, user_id), after, PAGE, Consistency::Quorum).await?;
    let last = rows.last().map_or(after, |row| row.seq);
    let more = rows.len() == PAGE;
    let mut out = Vec::new();
    for row in rows {
        out.extend(decode(&row.body)?.changes);
    }
    Ok((out, last, more))
}
