//! The tables. Each is documented with what it holds; its CQL follows from the descriptor ([`crate::cql`]) and stands, whole, in
//! `schema.cql` beside this crate's manifest.
//!
//! Numbers, names and columns are for ever; only additions are allowed, and columns only at the end.

use crate::table::{Direction::Ascending, Direction::Descending, Kind, Table, blob, int, text};

/// The `seq` of a log partition's head row: a sentinel that sorts before every row.
pub const HEAD_ROW: i64 = i64::MAX;

/// The log itself.
pub static LOG: Table = Table {
    name: "log",
    number: 1,
    kind: Kind::Log,
    partition: &[int("tenant"), blob("log"), int("bucket")],
    clustering: &[int("seq")],
    direction: Descending,
    guards: Some(["head_seq", "epoch"]),
    columns: &[int("kind"), text("event_id"), text("device"), text("txn"), int("attempt")],
    doc: "Rows of every log, newest first, in buckets of 1,024. The first row (seq = 2^63-1) is the head. Rows appended at once share an attempt.",
};

/// Which log (and which life) a name stands for. Guards: life, sealed (0 or 1).
pub static LOG_NAMES: Table = Table {
    name: "log_names",
    number: 2,
    kind: Kind::Log,
    partition: &[int("tenant"), text("usage"), text("name")],
    clustering: &[],
    direction: Ascending,
    guards: Some(["life", "state"]),
    columns: &[blob("log"), blob("before")],
    doc: "The log of a room by its id, of an inbox by its device; its life, and the log of the life before.",
};

/// Who was there: one partition. Guards: state (0 open, 1 closed, 2 drained, 3 about to go), number of slots. The row of the incarnation
/// zero counts those that are gone.
pub static MEMBERS: Table = Table {
    name: "members",
    number: 3,
    kind: Kind::Log,
    partition: &[text("cluster")],
    clustering: &[blob("incarnation")],
    direction: Ascending,
    guards: Some(["state", "slots"]),
    columns: &[text("kind"), text("node"), int("version"), int("first_slot"), text("address"), int("told")],
    doc: "Processes: open, closed or drained; the first slot that may have logs; where it answers; how much it had told when it left.",
};

/// What an incarnation has active. Guards of the sentinel row: open (1 or 0), 0. The sentinel's entry is the empty text.
pub static ACTIVE: Table = Table {
    name: "active",
    number: 4,
    kind: Kind::Log,
    partition: &[blob("incarnation"), int("slot")],
    clustering: &[text("entry")],
    direction: Ascending,
    guards: Some(["open", "unused"]),
    columns: &[int("tenant"), blob("log"), int("life")],
    doc: "The logs that a process may have open, by slot. The row with the empty entry says whether the slot is open.",
};

/// Room aliases. Guards: version, state (1 in use, 0 deleted).
pub static ALIASES: Table = Table {
    name: "aliases",
    number: 5,
    kind: Kind::Log,
    partition: &[int("tenant"), text("alias")],
    clustering: &[],
    direction: Ascending,
    guards: Some(["version", "state"]),
    columns: &[text("room_id"), text("creator")],
    doc: "Where an alias points.",
};

/// One-time keys. The row with idx -1 is the head; its guards: next index to hand out, next index to upload to.
pub static ONE_TIME_KEYS: Table = Table {
    name: "one_time_keys",
    number: 6,
    kind: Kind::Log,
    partition: &[int("tenant"), text("user_id"), text("device"), text("algorithm")],
    clustering: &[int("idx")],
    direction: Ascending,
    guards: Some(["next_claim", "next_upload"]),
    columns: &[text("key_id")],
    doc: "One-time keys in the order of their upload. A claim raises next_claim, conditionally: each is handed out once.",
};

/// Facts about this store that are made once. Guards: version, 0.
pub static META: Table = Table {
    name: "meta",
    number: 7,
    kind: Kind::Log,
    partition: &[text("name")],
    clustering: &[],
    direction: Ascending,
    guards: Some(["version", "unused"]),
    columns: &[],
    doc: "Schema version, incarnation.",
};

/// Names that may be used once, by the hour in which they were made: an hour that is over is dropped whole. Guards: 1, 0.
pub static USED_ONCE: Table = Table {
    name: "used_once",
    number: 8,
    kind: Kind::Log,
    partition: &[int("tenant"), text("usage"), int("hour")],
    clustering: &[text("name")],
    direction: Ascending,
    guards: Some(["used", "unused"]),
    columns: &[],
    doc: "Nonces that were used.",
};

/// Tenants beside the configured one: one partition. Guards: version, state (1 in use).
pub static TENANTS: Table = Table {
    name: "tenants",
    number: 9,
    kind: Kind::Log,
    partition: &[text("cluster")],
    clustering: &[text("server_name")],
    direction: Ascending,
    guards: Some(["version", "state"]),
    columns: &[int("tenant"), text("public_baseurl")],
    doc: "Tenants by server name, with their signing keys.",
};

/// Signs of life of processes; each raises its counter every 2 s.
pub static BEATS: Table = Table {
    name: "beats",
    number: 20,
    kind: Kind::Plain,
    partition: &[text("cluster")],
    clustering: &[blob("incarnation")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "A counter per process; who watches it stand still knows that the process does.",
};

/// Nodes of the state tries: immutable, by their hash.
pub static STATE_NODES: Table = Table {
    name: "state_nodes",
    number: 21,
    kind: Kind::Plain,
    partition: &[int("tenant"), blob("log"), int("generation"), blob("hash")],
    clustering: &[],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "Content-addressed nodes of room state.",
};

/// Room sets of sync tokens too large to be inline: immutable, 30 days from last use.
pub static SYNC_SNAPSHOTS: Table = Table {
    name: "sync_snapshots",
    number: 22,
    kind: Kind::Plain,
    partition: &[int("tenant"), blob("id")],
    clustering: &[int("part")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "The set of rooms that a sync token stands for.",
};

/// Filters, by the hash of their content.
pub static FILTERS: Table = Table {
    name: "filters",
    number: 23,
    kind: Kind::Plain,
    partition: &[int("tenant"), text("user_id")],
    clustering: &[text("filter_id")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "Filters that clients stored.",
};

/// Others' receipts, for display, best effort.
pub static RECEIPTS: Table = Table {
    name: "receipts",
    number: 24,
    kind: Kind::Projection,
    partition: &[int("tenant"), blob("log")],
    clustering: &[text("user_id"), text("kind"), text("thread")],
    direction: Ascending,
    guards: None,
    columns: &[text("event_id")],
    doc: "The newest receipt of each user in a room, stamped with the position of its event.",
};

/// Up to where the projections of a log are known to be written.
pub static PROJECTED: Table = Table {
    name: "projected",
    number: 40,
    kind: Kind::Projection,
    partition: &[int("tenant"), blob("log")],
    clustering: &[],
    direction: Ascending,
    guards: None,
    columns: &[int("seq")],
    doc: "projected_seq of a log: written after the rows that it covers. Also the hint to its newest bucket.",
};

/// Transactions by device: the event that each gave.
pub static TRANSACTIONS: Table = Table {
    name: "transactions",
    number: 41,
    kind: Kind::Projection,
    partition: &[int("tenant"), blob("log"), text("device"), text("txn")],
    clustering: &[],
    direction: Ascending,
    guards: None,
    columns: &[text("event_id"), int("seq")],
    doc: "The event that a client's transaction gave.",
};

/// Events by id.
pub static EVENTS: Table = Table {
    name: "events",
    number: 42,
    kind: Kind::Projection,
    partition: &[int("tenant"), text("event_id")],
    clustering: &[],
    direction: Ascending,
    guards: None,
    columns: &[blob("log"), int("seq")],
    doc: "Where an event stands.",
};

/// Memberships by user.
pub static MEMBERSHIPS: Table = Table {
    name: "memberships",
    number: 43,
    kind: Kind::Projection,
    partition: &[int("tenant"), text("user_id")],
    clustering: &[text("room_id")],
    direction: Ascending,
    guards: None,
    columns: &[text("membership")],
    doc: "What a user is in each room, the position that said so and since when.",
};

/// When a user forgot a room: a register of its own.
pub static FORGOTTEN: Table = Table {
    name: "forgotten",
    number: 44,
    kind: Kind::Projection,
    partition: &[int("tenant"), text("user_id")],
    clustering: &[text("room_id")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "The position at which a user forgot a room. Only a later join or invite undoes it.",
};

/// The materialised user record.
pub static USER_RECORD: Table = Table {
    name: "user_record",
    number: 45,
    kind: Kind::Projection,
    partition: &[int("tenant"), text("user_id")],
    clustering: &[text("kind"), text("scope"), text("key")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "Account, profile, account data, devices and their keys, push rules: the newest value of each entry of a user's log.",
};

/// A user's own receipts: the base of unread counts.
pub static OWN_RECEIPTS: Table = Table {
    name: "own_receipts",
    number: 46,
    kind: Kind::Projection,
    partition: &[int("tenant"), text("user_id")],
    clustering: &[text("room_id"), text("thread"), text("kind")],
    direction: Ascending,
    guards: None,
    columns: &[text("event_id")],
    doc: "How far a user has read, with the running counts at that event.",
};

/// Redactions by the bucket of their target.
pub static REDACTIONS: Table = Table {
    name: "redactions",
    number: 47,
    kind: Kind::Projection,
    partition: &[int("tenant"), blob("log"), int("bucket")],
    clustering: &[int("seq")],
    direction: Ascending,
    guards: None,
    columns: &[text("redacted_by")],
    doc: "Which rows of a bucket are redacted, and by which event.",
};

/// The public room directory.
pub static PUBLIC_ROOMS: Table = Table {
    name: "public_rooms",
    number: 48,
    kind: Kind::Projection,
    partition: &[int("tenant"), int("shard")],
    clustering: &[text("room_id")],
    direction: Ascending,
    guards: None,
    columns: &[int("listed")],
    doc: "Rooms that are listed, spread over 16 shards.",
};

/// Aliases of a room.
pub static ROOM_ALIASES: Table = Table {
    name: "room_aliases",
    number: 49,
    kind: Kind::Plain,
    partition: &[int("tenant"), text("room_id")],
    clustering: &[text("alias")],
    direction: Ascending,
    guards: None,
    columns: &[],
    doc: "Aliases that were ever made for a room: a hint; the alias itself says where it points.",
};

/// Every table, in the order of their numbers.
pub static ALL: &[&Table] = &[
    &LOG,
    &LOG_NAMES,
    &MEMBERS,
    &ACTIVE,
    &ALIASES,
    &ONE_TIME_KEYS,
    &META,
    &USED_ONCE,
    &TENANTS,
    &BEATS,
    &STATE_NODES,
    &SYNC_SNAPSHOTS,
    &FILTERS,
    &RECEIPTS,
    &PROJECTED,
    &TRANSACTIONS,
    &EVENTS,
    &MEMBERSHIPS,
    &FORGOTTEN,
    &USER_RECORD,
    &OWN_RECEIPTS,
    &REDACTIONS,
    &PUBLIC_ROOMS,
    &ROOM_ALIASES,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_kinds_are_told_apart() {
        assert_eq!(ALL.iter().map(|t| t.number).collect::<BTreeSet<_>>().len(), ALL.len());
        assert_eq!(ALL.iter().map(|t| t.name).collect::<BTreeSet<_>>().len(), ALL.len());
        for table in ALL {
            assert_eq!(table.guards.is_some(), table.kind == Kind::Log, "{}", table.name);
            assert!(!table.doc.is_empty() && !table.partition.is_empty());
        }
    }
}
