//! Writes that share a commit.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use polity_core::mutation::{Mutation, planted};
use polity_store::{Cas, Durability, Expect, StoreError, Table, Values};

use crate::{
    engine::{Engine, KeyWrite},
    metric,
    record::Record,
    request::{KeyChange, PlainWrite, Reply, Request},
    turn::Held,
};

/// Writes that will share a commit, and who waits for them.
pub(crate) struct Group<'a> {
    engine: &'a dyn Engine,
    pending: BTreeMap<Vec<u8>, Option<Bytes>>,
    bytes: usize,
    sync: bool,
    cas: Vec<(Reply<Cas>, Result<Cas, StoreError>)>,
    put: Vec<Reply<()>>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, pending: BTreeMap::new(), bytes: 0, sync: false, cas: Vec::new(), put: Vec::new() }
    }

    pub(crate) fn take(&mut self, request: Request) {
        match request {
            Request::Cas { table, row, expect, changes, reply } => {
                // Refused or not: the answer rests on what the group (and its sync) makes true.
                let outcome = self.cas(table, row, expect, changes);
                self.sync = true;
                self.cas.push((reply, outcome));
            }
            Request::Put { writes, durability, reply } => match self.put(writes) {
                Ok(()) => {
                    self.sync |= durability == Durability::Acknowledged;
                    self.put.extend(reply);
                }
                Err(error) => drop(reply.map(|reply| reply.send(Err(error)))),
            },
            Request::Drop { range, reply } => match self.delete(&range.0, &range.1) {
                Ok(()) => {
                    self.sync = true;
                    self.put.push(reply);
                }
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.pending.get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.engine.get(key),
        }
    }

    fn cas(
        &mut self,
        table: &'static Table,
        (key, clustering): (Vec<u8>, Values),
        expect: Expect,
        changes: Vec<KeyChange>,
    ) -> Result<Cas, StoreError> {
        let current = self.get(&key)?.map(|bytes| Record::decode(table, bytes)).transpose()?;
        let holds = match (&current, expect) {
            (None, Expect::Absent) => true,
            (Some(record), Expect::Guards(first, second)) => record.guards == Some((first, second)),
            _ => false,
        };
        if !holds {
            let row = current.map(|record| record.into_row(table, clustering)).transpose()?;
            return Ok(Cas::Refused(row));
        }
        // Whatever can fail comes first: a write that failed leaves nothing behind.
        let mut writes: Vec<KeyWrite> = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                KeyChange::Put(key, record) => writes.push((key, Some(record))),
                KeyChange::Delete(begin, end) => {
                    writes.extend(self.keys_between(&begin, &end)?.into_iter().map(|key| (key, None)));
                }
            }
        }
        writes.into_iter().for_each(|(key, value)| self.set(key, value));
        Ok(Cas::Applied)
    }

    pub(crate) fn put(&mut self, writes: Vec<PlainWrite>) -> Result<(), StoreError> {
        for PlainWrite { table, key, stamp, record } in writes {
            if let (Some(stamp), Some(record)) = (stamp, &record)
                && let Some(current) = self.get(&key)?
            {
                // A max-register: the greatest stamp stays, of equal ones the greater row.
                let (current, new) = (Record::decode(table, current)?, Record::decode(table, record.clone())?);
                if (current.stamp, current.packed) >= (Some(stamp), new.packed) && !planted(Mutation::LastWriteStays) {
                    continue;
                }
            }
            self.set(key, record);
        }
        Ok(())
    }

    /// Removes the keys with `begin <= key < end`.
    fn delete(&mut self, begin: &[u8], end: &[u8]) -> Result<(), StoreError> {
        self.keys_between(begin, end)?.into_iter().for_each(|key| self.set(key, None));
        Ok(())
    }

    fn keys_between(&self, begin: &[u8], end: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found: Vec<Vec<u8>> =
            self.pending.range(begin.to_vec()..end.to_vec()).map(|(key, _)| key.clone()).collect();
        self.engine.range(begin, end, false, &mut |(key, _)| {
            found.push(key.to_vec());
            true
        })?;
        Ok(found)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.pending.insert(key, value);
    }

    /// About what it will write.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes it, unless an earlier write has failed: what comes later may rest on that.
    pub(crate) fn commit(self, taken: usize, turn: &mut Held<'_>) -> Result<(), StoreError> {
        let began = Instant::now();
        let count = f64::from(u32::try_from(taken).unwrap_or(u32::MAX));
        metrics::histogram!(metric::GROUP).record(count);
        metrics::counter!(metric::BYTES).increment(self.bytes as u64);
        // Without a change of its own an answer rests on what is there, which may not be synced yet.
        let nothing = self.pending.is_empty() && !(self.sync && turn.unsynced);
        let written = match turn.broken() {
            Some(error) => Err(error.clone()),
            None if nothing => Ok(()),
            None => self.engine.write(self.pending.into_iter().collect(), self.sync),
        };
        let synced = if self.sync { "true" } else { "false" };
        metrics::histogram!(metric::COMMIT_SECONDS, "synced" => synced).record(began.elapsed().as_secs_f64());
        match &written {
            Ok(()) if nothing => {}
            Ok(()) => turn.unsynced = !self.sync,
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                turn.end(error);
            }
        }
        for (reply, outcome) in self.cas {
            // Nobody may be listening any more: the write stands all the same.
            drop(reply.send(written.clone().and(outcome)));
        }
        for reply in self.put {
            drop(reply.send(written.clone()));
        }
        written
    }
}
