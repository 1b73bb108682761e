//! The machine of an inbox. A message has an id: the hash of its sender's device, transaction and target. Rows stay for at least
//! ten minutes, so the rows themselves say which transactions were there: no index beside the log grows with every message. Older
//! ones go when they are acknowledged, or when there are too many.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use polity_bus::{Bus, Subject, SubjectKind};
use polity_core::{Clock, LogKey, Seq};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, NewRow, RepeatedRow, Sealed, read};
use polity_store::{Store, Write};

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;
/// Format, key id, time, id.
const PREFIX: usize = 2 + 8 + ID;
const ID: usize = 16;
/// A sender may try again for so long.
const RETRY_MS: u64 = 10 * 60 * 1000;
/// Messages that a device which never syncs keeps: the newest.
pub(crate) const KEPT: u64 = 20_000;
/// Messages beyond which none is taken in: they came faster than old ones may go.
pub(crate) const FULL: u64 = 2 * KEPT;
/// Rows go so many at once, so that not every acknowledgement is a write.
pub(super) const AT_ONCE: u64 = 64;
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
    /// The oldest beyond [`KEPT`] are to go.
    Shrink,
}

/// How long the inbox is then.
pub(crate) type Answer = Result<u64, LogError>;

/// See the module.
pub(crate) struct InboxMachine {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    /// The oldest row.
    first: Seq,
    /// The messages of the last ten minutes.
    known: HashSet<MessageId>,
    /// The same, oldest first, with time and place.
    recent: VecDeque<(u64, MessageId, Seq)>,
}

/// The body of a message's row.
fn encode(message: &Deliver) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.event.len());
    body.put_u8(FORMAT);
    body.put_u8(KEY_NONE);
    body.put_u64(message.at_ms);
    body.put_slice(&message.id);
    body.put_slice(&message.event);
    body.freeze()
}

/// When a row was written, its message's id and the message.
pub(super) fn decode(body: &Bytes) -> Result<(u64, MessageId, Bytes), LogError> {
    let corrupt = || LogError::Corrupt("a message of an unknown format".to_owned());
    let prefix = body.get(..PREFIX).filter(|prefix| prefix.starts_with(&[FORMAT, KEY_NONE])).ok_or_else(corrupt)?;
    let (at, id) = prefix[2..].split_at(8);
    let at_ms = u64::from_be_bytes(at.try_into().map_err(|_| corrupt())?);
    Ok((at_ms, id.try_into().map_err(|_| corrupt())?, body.slice(PREFIX..)))
}

impl InboxMachine {
    pub(crate) fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Self {
        let (known, recent) = (HashSet::new(), VecDeque::new());
        Self { store, bus, clock, first: Seq::new(1), known, recent }
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
        let length = next.get() - self.first.get();
        if self.known.contains(&message.id) {
            return Decision::Reply(Ok(length));
        }
        if length >= FULL {
            return Decision::Reply(Err(LogError::Overloaded));
        }
        self.remember(message.at_ms, message.id, next);
        let row = NewRow { kind: 1, body: encode(message), ..NewRow::default() };
        Decision::Append { rows: vec![row], reply: Ok(length + 1), after_projection: false }
    }

    /// Lets the rows up to `up_to` go, as far as they are old enough.
    fn trim(&mut self, up_to: Seq, next: Seq) -> Decision<Answer> {
        let end = self.recent.front().map_or(next, |(_, _, seq)| *seq).min(up_to.next());
        if end.get() < self.first.get() + AT_ONCE {
            return Decision::Reply(Ok(next.get() - self.first.get()));
        }
        self.first = end;
        Decision::Trim { up_to: Seq::new(end.get() - 1), reply: Ok(next.get() - end.get()) }
    }
}

#[async_trait]
impl Machine for InboxMachine {
    type Command = Order;
    type Reply = Answer;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        let Some(head) = head else { return Ok(()) };
        self.first = head.first;
        let oldest_ms = self.clock.now_ms().saturating_sub(RETRY_MS);
        let (mut at, mut recent) = (head.seq, Vec::new());
        'reading: while at >= self.first {
            let rows = read::back(&*self.store, key, at, PAGE).await?;
            let Some(last) = rows.last() else { break };
            at = Seq::new(last.seq.get().saturating_sub(1));
            for row in &rows {
                let (at_ms, id, _) = decode(&row.body)?;
                if at_ms < oldest_ms {
                    break 'reading;
                }
                recent.push((at_ms, id, row.seq));
            }
        }
        for (at_ms, id, seq) in recent.into_iter().rev() {
            self.remember(at_ms, id, seq);
        }
        Ok(())
    }

    async fn prepare(&mut self, _group: &[&Order]) -> Result<(), LogError> {
        self.forget(self.clock.now_ms());
        Ok(())
    }

    fn dedup<'a>(&self, _order: &'a Order) -> Option<&'a Dedup> {
        None
    }

    fn repeated(&mut self, _order: &Order, row: &RepeatedRow) -> Answer {
        Ok(row.seq.get())
    }

    fn decide(&mut self, order: &Order, next: Seq) -> Decision<Answer> {
        match order {
            Order::Deliver(message) => self.deliver(message, next),
            Order::Acknowledged(up_to) => self.trim(*up_to, next),
            Order::Shrink => self.trim(Seq::new(next.get().saturating_sub(KEPT + 1)), next),
        }
    }

    fn failed(error: LogError) -> Answer {
        Err(error)
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        Ok(Sealed { head: Bytes::from_static(&[FORMAT, KEY_NONE]), ..Sealed::default() })
    }

    /// Nothing stands beside an inbox.
    fn project(&self, _key: LogKey, _rows: &[LogRow]) -> Vec<Write> {
        Vec::new()
    }

    fn announce(&mut self, key: LogKey, _rows: &[LogRow]) {
        // Whoever is woken reads the log.
        self.bus.publish(Subject::new(SubjectKind::Device, key.tenant, key.log), Bytes::new());
    }
}
