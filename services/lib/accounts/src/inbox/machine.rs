//! The machine of an inbox. A message has an id: the hash of its sender's device, transaction and target. Rows stay for at least
//! ten minutes, so the rows themselves say which transactions were there: no index beside the log grows with every message.

use std::{
    collections::{HashMap, VecDeque},
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
pub(super) const RETRY_MS: u64 = 10 * 60 * 1000;
/// Ids remembered per inbox: under a flood a retry is known for less long.
const REMEMBERED: usize = 16_384;
/// Rows that a load reads at once.
const PAGE: usize = 500;

/// Which message it is.
pub(super) type MessageId = [u8; ID];

/// A message for the inbox.
pub(crate) struct Deliver {
    pub(super) id: MessageId,
    pub(super) at_ms: u64,
    pub(super) event: Bytes,
}

/// See the module.
pub(crate) struct InboxMachine {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    known: HashMap<MessageId, Seq>,
    /// The same, oldest first.
    order: VecDeque<(u64, MessageId)>,
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
        Self { store, bus, clock, known: HashMap::new(), order: VecDeque::new() }
    }

    fn remember(&mut self, at_ms: u64, id: MessageId, seq: Seq) {
        self.known.insert(id, seq);
        self.order.push_back((at_ms, id));
        self.forget(at_ms);
    }

    /// Forgets what nobody sends again.
    fn forget(&mut self, now_ms: u64) {
        let old = |at_ms: u64| now_ms.saturating_sub(at_ms) > RETRY_MS;
        while self.order.front().is_some_and(|(at_ms, _)| old(*at_ms)) || self.order.len() > REMEMBERED {
            if let Some((_, id)) = self.order.pop_front() {
                self.known.remove(&id);
            }
        }
    }
}

#[async_trait]
impl Machine for InboxMachine {
    type Command = Deliver;
    type Reply = Result<Seq, LogError>;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        let mut at = head.map_or(Seq::ZERO, |head| head.seq);
        let oldest_ms = self.clock.now_ms().saturating_sub(RETRY_MS);
        let mut recent = Vec::new();
        'reading: while recent.len() < REMEMBERED {
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

    async fn prepare(&mut self, _group: &[&Deliver]) -> Result<(), LogError> {
        self.forget(self.clock.now_ms());
        Ok(())
    }

    fn dedup<'a>(&self, _command: &'a Deliver) -> Option<&'a Dedup> {
        None
    }

    fn repeated(&mut self, _command: &Deliver, row: &RepeatedRow) -> Self::Reply {
        Ok(row.seq)
    }

    fn decide(&mut self, message: &Deliver, next: Seq) -> Decision<Self::Reply> {
        if let Some(seq) = self.known.get(&message.id) {
            return Decision::Reply(Ok(*seq));
        }
        self.remember(message.at_ms, message.id, next);
        let row = NewRow { kind: 1, body: encode(message), ..NewRow::default() };
        Decision::Append { rows: vec![row], reply: Ok(next), after_projection: false }
    }

    fn failed(error: LogError) -> Self::Reply {
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
