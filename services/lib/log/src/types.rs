//! What a log consists of.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use polity_core::{Classified, Epoch, ErrorKind, IncarnationId, Seq};
use polity_store::{Row, StoreError, Value, schema};

const FORMAT: u8 = 1;
/// Not encrypted.
const KEY_NONE: u8 = 0;
/// Format, key id, writer, the oldest row that is still there.
const PREFIX: usize = WRITER_END + 8;
const WRITER_END: usize = 2 + 16;

/// Why a log can't be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Too many commands wait for it. Nothing was done.
    #[error("too many commands are waiting for this log")]
    Overloaded,
    /// The store can't be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else writes it, again and again.
    #[error("the log is being written by somebody else")]
    Contended,
    /// The log was sealed: its name has another one now.
    #[error("the log was sealed")]
    Sealed,
    /// This process was closed by another one: it may not write any more.
    #[error("this process was closed by another one")]
    Closed,
    /// Another process writes it: ask there. Nothing was done.
    #[error("another process writes this log")]
    Elsewhere(IncarnationId),
    /// It isn't open here: whoever handed this on may open it, without a fence. Nothing was done.
    #[error("this process doesn't have the log open")]
    NotHeld,
    /// This process is about to end and opens nothing any more. Nothing was done.
    #[error("this process is leaving")]
    Leaving,
    /// A row can't be understood.
    #[error("damaged log: {0}")]
    Corrupt(String),
    /// The command's rows don't fit into one append.
    #[error("too large for one append: {0}")]
    TooLarge(String),
    /// The command's effect is unknown: its task has ended.
    #[error("the log's task has ended")]
    Ended,
}

/// A row of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its number.
    pub seq: Seq,
    /// What it is, in the words of its machine.
    pub kind: i64,
    /// Its event, where it has one.
    pub event_id: Option<Box<str>>,
    /// The device that asked for it.
    pub device: Option<Box<str>>,
    /// The transaction in which it asked.
    pub txn: Option<Box<str>>,
    /// The rest: begins with a format byte and a key id.
    pub body: Bytes,
    /// Names the attempt to append it. Two that append the same at the same place are told apart by nothing else.
    pub attempt: i64,
}

/// A row that isn't appended yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRow {
    /// What it is.
    pub kind: i64,
    /// Its event, where it has one.
    pub event_id: Option<Box<str>>,
    /// The device that asks for it.
    pub device: Option<Box<str>>,
    /// The transaction in which it asks.
    pub txn: Option<Box<str>>,
    /// The rest.
    pub body: Bytes,
}

/// The head of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The newest row.
    pub seq: Seq,
    /// The epoch.
    pub epoch: Epoch,
    /// The oldest row that is still there: those before it were trimmed ([`crate::Decision::Trim`]).
    pub first: Seq,
    /// Who wrote it.
    pub writer: IncarnationId,
    /// The machine's part.
    pub state: Bytes,
}

impl LogError {
    /// Whether trying again comes to the same: damage or a defect, and not the moment.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::TooLarge(_) => true,
            Self::Store(error) => {
                matches!(error, StoreError::Corrupt { .. } | StoreError::Misuse { .. } | StoreError::TooLarge(_))
            }
            Self::Overloaded
            | Self::Contended
            | Self::Sealed
            | Self::Closed
            | Self::Elsewhere(_)
            | Self::NotHeld
            | Self::Leaving
            | Self::Ended => false,
        }
    }
}

impl Classified for LogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Overloaded => ErrorKind::Overloaded,
            Self::Store(error) => error.kind(),
            Self::Contended | Self::Closed | Self::Elsewhere(_) | Self::NotHeld | Self::Leaving | Self::Ended => {
                ErrorKind::Unavailable
            }
            Self::Sealed => ErrorKind::NotFound,
            Self::Corrupt(_) => ErrorKind::Internal,
            Self::TooLarge(_) => ErrorKind::TooLarge,
        }
    }
}

// === impl NewRow ===

impl NewRow {
    /// The row with its number, of no attempt yet.
    #[must_use]
    pub fn at(self, seq: Seq) -> LogRow {
        let Self { kind, event_id, device, txn, body } = self;
        LogRow { seq, kind, event_id, device, txn, body, attempt: 0 }
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        self.body.len() + text(&self.event_id) + text(&self.device) + text(&self.txn)
    }
}

// === impl LogRow ===

impl LogRow {
    /// The row for the store.
    #[must_use]
    pub fn to_row(&self) -> Row {
        let text = |text: &Option<Box<str>>| text.as_deref().map(Value::from);
        Row::new(polity_store::values([Value::Int(self.seq.to_i64())]), self.body.clone()).with_columns(vec![
            Some(Value::Int(self.kind)),
            text(&self.event_id),
            text(&self.device),
            text(&self.txn),
            Some(Value::Int(self.attempt)),
        ])
    }

    /// Reads a stored row; `None` for a head.
    pub(crate) fn from_row(row: Row) -> Result<Option<Self>, LogError> {
        let corrupt = || LogError::Corrupt("a row without number or kind".to_owned());
        let seq = row.key.first().and_then(Value::as_int).ok_or_else(corrupt)?;
        if seq == schema::HEAD_ROW {
            return Ok(None);
        }
        let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
        let text = |at: usize| column(at).and_then(Value::as_text).map(Box::from);
        Ok(Some(Self {
            seq: Seq::new(seq.cast_unsigned()),
            kind: column(0).and_then(Value::as_int).ok_or_else(corrupt)?,
            event_id: text(1),
            device: text(2),
            txn: text(3),
            body: row.value,
            attempt: column(4).and_then(Value::as_int).unwrap_or_default(),
        }))
    }
}

// === impl Head ===

impl Head {
    /// The head's row for the store.
    #[must_use]
    pub fn to_row(&self) -> Row {
        let mut value = BytesMut::with_capacity(PREFIX + self.state.len());
        value.put_u8(FORMAT);
        value.put_u8(KEY_NONE);
        value.put_slice(self.writer.as_bytes());
        value.put_u64(self.first.get());
        value.put_slice(&self.state);
        Row::new(head_key(), value.freeze()).guarded(self.seq.to_i64(), self.epoch.get())
    }

    /// What stays of a bucket's head when its rows went with their log.
    pub(crate) fn purged(&self) -> Self {
        Self { epoch: Epoch::SEALED, state: Bytes::new(), ..self.clone() }
    }

    /// Whether it is one of those that stay ([`Head::purged`]).
    pub(crate) fn is_purged(&self) -> bool {
        self.epoch.is_sealed() && self.state.is_empty()
    }

    /// Reads a stored head.
    pub(crate) fn from_row(row: &Row) -> Result<Self, LogError> {
        let corrupt = || LogError::Corrupt("a head that this version can't read".to_owned());
        let (seq, epoch) = row.guards.ok_or_else(corrupt)?;
        if row.value.len() < PREFIX || row.value[..2] != [FORMAT, KEY_NONE] {
            return Err(corrupt());
        }
        Ok(Self {
            seq: Seq::new(seq.cast_unsigned()),
            epoch: Epoch::new(epoch),
            first: Seq::new((&row.value[WRITER_END..PREFIX]).get_u64()),
            writer: IncarnationId::from_slice(&row.value[2..WRITER_END]).map_err(|_| corrupt())?,
            state: row.value.slice(PREFIX..),
        })
    }
}

/// The clustering key of heads.
pub(crate) fn head_key() -> polity_store::Values {
    polity_store::values([Value::Int(schema::HEAD_ROW)])
}
