//! The projections of a log's rows: the machine's, the transactions, and up to where all are written.

use bytes::Bytes;
use polity_core::{
    Position, Seq, Stamp,
    mutation::{Mutation, planted},
};
use polity_store::{Consistency, Durability, Row, Value, Values, Write, WriteKind, schema, values_of};

use crate::{Dedup, LogError, LogRow, Machine, RepeatedRow, append, held::Held, log::Log};

/// The version of the projections that the engine writes itself.
const VERSION: u8 = 1;
/// `projected` is written once so many rows are; a load projects at most these (and one group) again.
const PROJECTED_EVERY: u64 = 64;

impl<M: Machine> Log<M> {
    /// The projections of `rows`.
    pub(crate) fn projections(&self, held: &Held<M>, rows: &[LogRow]) -> Vec<Write> {
        let mut writes = held.machine.project(self.key, rows);
        writes.extend(rows.iter().filter_map(|row| self.transaction(row)));
        writes
    }

    /// Writes the projections of `rows`, which stand in the log.
    pub(crate) async fn project(&self, held: &mut Held<M>, rows: &[LogRow]) -> Result<(), LogError> {
        let writes = self.projections(held, rows);
        self.write(held, rows, writes).await
    }

    async fn write(&self, held: &mut Held<M>, rows: &[LogRow], writes: Vec<Write>) -> Result<(), LogError> {
        let Some(last) = rows.last() else { return Ok(()) };
        self.inner.env.store.put(writes, Durability::Rebuildable).await?;
        if last.seq.get().saturating_sub(held.projected.get()) >= PROJECTED_EVERY
            && let Err(error) = self.note_projected(held).await
        {
            tracing::debug!(%error, log = %self.key, "projected_seq isn't written yet");
        }
        Ok(())
    }

    /// Writes the projections of rows that are durable, however often it takes: the answers and the next group wait meanwhile, so
    /// that no more than one group is ever behind. `writes`: those of the first try.
    ///
    /// # Errors
    /// They can never be written.
    pub(crate) async fn project_all(
        &self,
        held: &mut Held<M>,
        rows: &[LogRow],
        writes: Vec<Write>,
    ) -> Result<(), LogError> {
        let mut outcome = self.write(held, rows, writes).await;
        for attempt in 0.. {
            match outcome {
                Err(error) if !error.is_permanent() => {
                    tracing::warn!(%error, log = %self.key, "rows can't be projected yet");
                }
                outcome => return outcome,
            }
            self.pause(attempt).await;
            outcome = self.project(held, rows).await;
        }
        outcome
    }

    /// Notes that all rows up to the head are projected: after they are.
    pub(crate) async fn note_projected(&self, held: &mut Held<M>) -> Result<(), LogError> {
        let seq = held.known.seq();
        if seq <= held.projected {
            return Ok(());
        }
        let write = Write {
            table: &schema::PROJECTED,
            partition: values_of![self.key.tenant, self.key.log],
            row: Row::new(Values::new(), Bytes::new()).with_columns(vec![Some(Value::Int(seq.to_i64()))]),
            kind: WriteKind::Projection(Stamp::new(Position::new(self.key.life, seq), VERSION)),
        };
        self.inner.env.store.put(vec![write], Durability::Rebuildable).await?;
        held.projected = seq;
        // Whose point reads are older has been decided: they are made anew for each group, and used before it is appended.
        held.recent.clear();
        Ok(())
    }

    /// Rows of earlier transactions, from the projection: for those that no row in memory answers.
    pub(crate) async fn old_transactions(
        &self,
        dedups: &[Option<Dedup>],
    ) -> Result<Vec<Option<RepeatedRow>>, LogError> {
        let reads = dedups.iter().map(|dedup| async move {
            let Some(dedup) = dedup.as_ref().filter(|_| !planted(Mutation::NoOldTransactions)) else { return Ok(None) };
            let partition = values_of![self.key.tenant, self.key.log, &*dedup.device, &*dedup.txn];
            let store = &self.inner.env.store;
            let row = store.get(&schema::TRANSACTIONS, partition, Values::new(), Consistency::Quorum).await?;
            Ok(row.and_then(|row| repeated_of(&row)))
        });
        futures_util::future::try_join_all(reads).await
    }

    /// Deletes what was trimmed from buckets that are full. What fails is left to the next trim.
    pub(crate) async fn clear(&self, held: &mut Held<M>) {
        let first = held.known.head.first;
        while held.uncleared.next().first_seq() <= first && held.known.is_behind(held.uncleared) {
            if let Err(error) = append::clear(&*self.inner.env.store, self.key, held.uncleared, first).await {
                tracing::debug!(%error, log = %self.key, "a trimmed bucket isn't cleared yet");
                return;
            }
            held.uncleared = held.uncleared.next();
        }
    }

    fn transaction(&self, row: &LogRow) -> Option<Write> {
        let (device, txn) = (row.device.as_deref()?, row.txn.as_deref()?);
        let event_id = row.event_id.as_deref().map(Value::from);
        let columns = vec![event_id, Some(Value::Int(row.seq.to_i64()))];
        Some(Write {
            table: &schema::TRANSACTIONS,
            partition: values_of![self.key.tenant, self.key.log, device, txn],
            row: Row::new(Values::new(), Bytes::new()).with_columns(columns),
            kind: WriteKind::Projection(Stamp::new(Position::new(self.key.life, row.seq), VERSION)),
        })
    }
}

fn repeated_of(row: &Row) -> Option<RepeatedRow> {
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
    let seq: Seq = Seq::new(column(1)?.as_int()?.cast_unsigned());
    Some(RepeatedRow { seq, event_id: column(0).and_then(Value::as_text).map(Box::from) })
}
