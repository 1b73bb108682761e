//! The machine of an inbox. A message has an id: the hash of its sender's device, transaction and target. Rows stay for at least
//! ten minutes, so the rows themselves say which transactions were there: no index beside the log grows with every message. Older
//! ones go when they are acknowledged, or when there are too many.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use polity_bus::{Bus, Subject, SubjectKind, Wake};
use polity_core::{
    Clock, LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed, read};
use polity_store::{Consistency, Store, Write};

use crate::metric;

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;
/// Format, key id, time, total, id.
const PREFIX: usize = 2 + 8 + 8 + ID;
const ID: usize = 16;
/// A sender may try again for so long.
const RETRY_MS: u64 = 10 * 60 * 1000;
/// Messages that a device which never syncs keeps: the newest.
pub(crate) const KEPT: u64 = 20_000;
/// Their bytes.
pub(crate) const KEPT_BYTES: u64 = 64 << 20;
/// Messages beyond which none is taken in: they came faster than old ones may go.
pub(crate) const FULL: u64 = 2 * KEPT;
/// Their bytes.
pub(crate) const FULL_BYTES: u64 = 2 * KEPT_BYTES;
/// Rows go so many at once, so that not every acknowledgement is a write.
pub(super) const AT_ONCE: u64 = 64;
/// What is remembered of a message takes so many bytes, about.
const REMEMBERED: usize = 96;
/// Rows that a load reads at once.
const PAGE: usize = 500;

/// Which message it is.
pub(crate) type MessageId = [u8; ID];

/// A message for the inbox.
pub(crate) struct Deliver {
    pub(crate) id: MessageId,
    pub(crate) at_ms: u64,
    pub(crate) event: Bytes,
}

/// What an inbox is told.
pub(crate) enum Order {
    /// Takes a message in.
    Deliver(Deliver),
    /// The device has these: they may go.
    Acknowledged(Seq),
    /// The oldest beyond [`KEPT`] and [`KEPT_BYTES`] are to go.
    Shrink,
}

/// How long an inbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// How long the inbox is then.
pub(crate) type Answer = Result<Length, LogError>;

/// See the module.
pub(crate) struct InboxMachine {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    key: Option<LogKey>,
    /// The oldest row.
    first: Seq,
    /// Bytes of all messages up to the newest row, and of those before the oldest one (for which row that was read).
    total: u64,
    gone: (u64, Seq),
    /// The messages of the last ten minutes.
    known: HashSet<MessageId>,
    /// The same, oldest first, with time and place.
    recent: VecDeque<(u64, MessageId, Seq)>,
}

/// The body of a message's row. `total`: the bytes of all messages so far, so that two rows tell what stands between them.
fn encode(message: &Deliver, total: u64) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.event.len());
    body.put_u8(FORMAT);
    body.put_u8(KEY_NONE);
    body.put_u64(message.at_ms);
    body.put_u64(total);
    body.put_slice(&message.id);
    body.put_slice(&message.event);
    body.freeze()
}

/// A message as its row says it.
pub(crate) struct Stored {
    at_ms: u64,
    total: u64,
    id: MessageId,
    pub(super) event: Bytes,
}

pub(crate) fn decode(body: &Bytes) -> Result<Stored, LogError> {
    let corrupt = || LogError::Corrupt("a message of an unknown format".to_owned());
    let prefix = body.get(..PREFIX).filter(|prefix| prefix.starts_with(&[FORMAT, KEY_NONE])).ok_or_else(corrupt)?;
    let mut rest = &prefix[2..];
    let (at_ms, total) = (rest.get_u64(), rest.get_u64());
    Ok(Stored { at_ms, total, id: rest.try_into().map_err(|_| corrupt())?, event: body.slice(PREFIX..) })
}

// === impl Length ===

impl Length {
    /// Whether some should go.
    pub(super) fn is_long(self) -> bool {
        self.rows > KEPT + AT_ONCE || self.bytes > KEPT_BYTES
    }

    /// Whether a message of so many bytes finds no room.
    fn is_full(self, more: u64) -> bool {
        self.rows >= FULL || self.bytes.saturating_add(more) > FULL_BYTES
    }

    /// The rows that are too many: by bytes as if all were of one size, which is near enough when it is asked again and again.
    fn excess(self) -> u64 {
        let by_bytes = u128::from(self.rows) * u128::from(self.bytes.saturating_sub(KEPT_BYTES));
        let by_bytes = u64::try_from(by_bytes.div_ceil(u128::from(self.bytes.max(1)))).unwrap_or(self.rows);
        self.rows.saturating_sub(KEPT).max(by_bytes)
    }
}

// === impl InboxMachine ===

impl InboxMachine {
    pub(crate) fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Self {
        let (known, recent) = (HashSet::new(), VecDeque::new());
        let (first, gone) = (Seq::new(1), (0, Seq::new(1)));
        Self { store, bus, clock, key: None, first, total: 0, gone, known, recent }
    }

    fn length(&self, next: Seq) -> Length {
        Length { rows: next.get() - self.first.get(), bytes: self.total.saturating_sub(self.gone.0) }
    }

    fn remember(&mut self, at_ms: u64, id: MessageId, seq: Seq) {
        if self.known.insert(id) {
            self.recent.push_back((at_ms, id, seq));
        }
    }

    /// Forgets what nobody sends again.
    fn forget(&mut self, now_ms: u64) {
        while let Some((at_ms, id, _)) = self.recent.front()
            && now_ms.saturating_sub(*at_ms) > RETRY_MS
        {
            self.known.remove(id);
            self.recent.pop_front();
        }
    }

    fn deliver(&mut self, message: &Deliver, next: Seq) -> Decision<Answer> {
        let length = self.length(next);
        if self.known.contains(&message.id) && !planted(Mutation::InboxKnowsNothing) {
            return Decision::Reply(Ok(length));
        }
        let bytes = message.event.len() as u64;
        if length.is_full(bytes) {
            // Lost to this device, which reads none or is flooded: the sender can do nothing about it, and others wait.
            metrics::counter!(metric::DROPPED).increment(1);
            return Decision::Reply(Ok(length));
        }
        self.remember(message.at_ms, message.id, next);
        self.total += bytes;
        let row = NewRow { kind: 1, body: encode(message, self.total), ..NewRow::default() };
        Decision::Append { rows: vec![row], reply: Ok(self.length(next.next())), after_projection: false }
    }

    /// Lets the rows up to `up_to` go, as far as they are old enough.
    fn trim(&mut self, up_to: Seq, next: Seq) -> Decision<Answer> {
        let oldest = self.recent.front().map_or(next, |(_, _, seq)| *seq);
        let end = if planted(Mutation::InboxTrimmedWhole) { next } else { oldest.min(up_to.next()) };
        if !planted(Mutation::InboxTrimmedWhole) && end.get() < self.first.get() + AT_ONCE {
            return Decision::Reply(Ok(self.length(next)));
        }
        self.first = end;
        Decision::Trim { up_to: Seq::new(end.get() - 1), reply: Ok(self.length(next)) }
    }
}

#[async_trait]
impl Machine for InboxMachine {
    type Command = Order;
    type Reply = Answer;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.key = Some(key);
        let Some(head) = head else { return Ok(()) };
        self.first = head.first;
        self.gone = (0, Seq::ZERO);
        let oldest_ms = self.clock.now_ms().saturating_sub(RETRY_MS);
        let (mut at, mut recent) = (head.seq, Vec::new());
        'reading: while at >= self.first {
            let rows = read::back(&*self.store, key, at, PAGE).await?;
            let Some(last) = rows.last() else { break };
            at = Seq::new(last.seq.get().saturating_sub(1));
            for row in &rows {
                let stored = decode(&row.body)?;
                self.total = self.total.max(stored.total);
                if stored.at_ms < oldest_ms {
                    break 'reading;
                }
                recent.push((stored.at_ms, stored.id, row.seq));
            }
        }
        for (at_ms, id, seq) in recent.into_iter().rev() {
            self.remember(at_ms, id, seq);
        }
        Ok(())
    }

    async fn prepare(&mut self, _group: &[&Order]) -> Result<(), LogError> {
        self.forget(self.clock.now_ms());
        if let Some(key) = self.key
            && self.gone.1 != self.first
        {
            // Rows went: what the oldest one says of those before it.
            let before = Seq::new(self.first.get().saturating_sub(1));
            let oldest = read::after(&*self.store, key, before, 1, Consistency::Quorum).await?;
            let gone = match oldest.first() {
                Some(row) => decode(&row.body).map(|stored| stored.total.saturating_sub(stored.event.len() as u64))?,
                None => self.total,
            };
            self.gone = (gone, self.first);
        }
        Ok(())
    }

    fn dedup<'a>(&self, _order: &'a Order) -> Option<&'a Dedup> {
        None
    }

    fn repeated(&mut self, _order: &Order, row: &RepeatedRow) -> Answer {
        Ok(self.length(row.seq.next()))
    }

    fn decide(&mut self, order: &Order, next: Seq) -> Decision<Answer> {
        match order {
            Order::Deliver(message) => self.deliver(message, next),
            Order::Acknowledged(up_to) => self.trim(*up_to, next),
            // Others of the group made it shorter already: by how many bytes isn't known yet.
            Order::Shrink if self.gone.1 != self.first => Decision::Reply(Ok(self.length(next))),
            Order::Shrink => {
                let end = self.first.get() + self.length(next).excess();
                self.trim(Seq::new(end.saturating_sub(1)), next)
            }
        }
    }

    fn failed(error: LogError) -> Answer {
        Err(error)
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        Ok(Sealed { head: Bytes::from_static(&[FORMAT, KEY_NONE]), ..Sealed::default() })
    }

    fn weight(&self) -> usize {
        self.recent.len() * REMEMBERED
    }

    /// Nothing stands beside an inbox.
    fn project(&self, _key: LogKey, _rows: &[LogRow]) -> Vec<Write> {
        Vec::new()
    }

    fn announce(&mut self, key: LogKey, rows: &[LogRow]) {
        // Whoever is woken reads the log.
        if let Some(last) = rows.last() {
            let wake = Wake::Log(last.seq).encode();
            self.bus.publish(Subject::new(SubjectKind::Device, key.tenant, key.log), wake);
        }
    }
}
