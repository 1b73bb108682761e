//! What a process of the next version does that this version doesn't know: every message that it sends has more in it, it sends messages
//! of kinds and formats that nobody else knows, and its tables have a column more.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use polity_bus::SubjectKind;
use polity_cluster::digest::{Entry, Journal};
use polity_store::{Change, Column, ColumnType, MarkMoved, MarkPlace, Row, Table, Value, Write, schema};
use tonic::body::Body;

/// A field with a number that no message has (2,000), of bytes.
const FIELD: &[u8] = b"\x82\x7d\x05later";
/// A format, and a kind of entry, that nobody knows.
const FORMAT: u8 = 0xee;
const KIND: u32 = 77;
/// A gRPC message has its length before it, and a flag.
const GRPC_PREFIX: usize = 5;
/// In news of devices, where the row begins that tells of them.
const ROW: usize = 9;

/// A gRPC body, each message of which has one more field.
pub(super) fn body(body: Body) -> Body {
    Body::new(body.map_frame(|frame| frame.map_data(with_a_field)))
}

fn with_a_field(message: Bytes) -> Bytes {
    let length =
        message.get(1..GRPC_PREFIX).map(|length| length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)));
    assert_eq!(length, Some(message.len() - GRPC_PREFIX), "a message is one piece");
    let length = u32::try_from(message.len() - GRPC_PREFIX + FIELD.len()).expect("a message of less than 4 GiB");
    let mut more = BytesMut::with_capacity(message.len() + FIELD.len());
    more.extend_from_slice(&message[..1]);
    more.extend_from_slice(&length.to_be_bytes());
    more.extend_from_slice(&message[GRPC_PREFIX..]);
    more.extend_from_slice(FIELD);
    more.freeze()
}

/// A message of the bus, as the next version says it.
pub(super) fn message(kind: SubjectKind, payload: &Bytes) -> Bytes {
    let mut more = BytesMut::from(&payload[..]);
    match kind {
        // A row of a log, which has no end of its own: another format says that there is more.
        SubjectKind::DeviceLists => more[ROW] = FORMAT,
        _ => more.extend_from_slice(FIELD),
    }
    more.freeze()
}

/// A message of the bus that only the next version knows.
pub(super) fn unknown_message() -> Bytes {
    [&[FORMAT][..], FIELD].concat().into()
}

/// Tells others of what only the next version keeps, too.
pub(super) struct Tells(pub(super) Arc<Journal>);

impl MarkMoved for Tells {
    fn marked(&self, place: MarkPlace) {
        self.0.note(Entry::Later(KIND));
        self.0.marked(place);
    }

    fn owed(&self, count: usize) {
        self.0.owed(count);
    }
}

/// A conditional write as the next version makes it.
pub(super) fn changes(table: &'static Table, mut changes: Vec<Change>) -> (&'static Table, Vec<Change>) {
    for change in &mut changes {
        if let Change::Put(row) = change {
            one_column_more(table, row);
        }
    }
    (next(table), changes)
}

/// Plain writes as the next version makes them.
pub(super) fn writes(mut writes: Vec<Write>) -> Vec<Write> {
    for Write { table, row, .. } in &mut writes {
        one_column_more(table, row);
        *table = next(table);
    }
    writes
}

fn one_column_more(table: &Table, row: &mut Row) {
    row.columns.resize(table.columns.len(), None);
    row.columns.push(Some(Value::Int(1)));
}

/// The table as the next version has it.
fn next(table: &Table) -> &'static Table {
    static NEXT: OnceLock<BTreeMap<u8, Table>> = OnceLock::new();
    let all = NEXT.get_or_init(|| {
        let tables = schema::ALL.iter().map(|table| {
            let &&Table { name, number, kind, partition, clustering, direction, guards, doc, .. } = table;
            let columns = [table.columns, &[Column { name: "added", ty: ColumnType::Int }]].concat().leak();
            (number, Table { name, number, kind, partition, clustering, direction, guards, columns, doc })
        });
        tables.collect()
    });
    &all[&table.number]
}
