//! The end of a log: its seal, after which nobody appends to it or fences it, and then what goes with it, bucket by bucket.
//!
//! The head that seals keeps the machine's part, which says what is to go, until all is gone: that part is empty of a log whose purge is
//! finished. Every bucket keeps its head, sealed and empty: it is what refuses a write of somebody who was stopped on his way to open that
//! bucket, of whom nobody knows, and who would find it absent once more. (It is one small row for 1,024.) Each step may be done twice, by
//! two processes at once, too.

use futures_util::{StreamExt, TryStreamExt, stream};
use polity_core::{
    Bucket, Epoch, LogKey, Seq,
    mutation::{Mutation, planted},
};
use polity_store::{Cas, Change, Condition, Consistency, Expect, StoreError, Value, schema, values_of};

use crate::{
    Head, LogError, LogRow, Machine,
    append::{FENCE_TRIES, Known},
    log::Log,
    read::{self, partition},
    types::head_key,
};

/// Rows read at once.
const PAGE: usize = 128;
/// Rows of other tables dropped at once: others are to have the store, too.
const AT_ONCE: usize = 8;

/// The purge of a sealed log under way.
pub(crate) struct Purge<M> {
    machine: M,
    last: Bucket,
}

impl<M: Machine> Log<M> {
    /// Seals the log where its next row would go; what is known then. Somebody else may have done it.
    ///
    /// # Errors
    /// [`LogError::Contended`] when somebody has raised the epoch: a new activation is needed, so that whoever closes this process finds
    /// the log. Any other, too: it may still be sealed, unless it is fenced.
    pub(crate) async fn seal(&self, known: &Known) -> Result<Known, LogError> {
        let env = &self.inner.env;
        let (store, writer) = (&*env.store, env.registry.incarnation());
        let mut at = known.clone();
        for _ in 0..FENCE_TRIES {
            let sealed = Head { epoch: Epoch::SEALED, writer, ..at.head.clone() };
            let (bucket, condition) = at.condition();
            let changes = vec![Change::Put(sealed.to_row())];
            match store.cas(&schema::LOG, partition(self.key, bucket), condition, changes).await {
                Ok(Cas::Applied) => return Ok(at.extended(sealed)),
                // The own one that wasn't heard of, or somebody else's write.
                Ok(Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
            at = Known::from_read(read::newest(store, self.key, at.seq(), Consistency::Serial).await?);
            match at.head.epoch {
                epoch if epoch.is_sealed() => return Ok(at),
                epoch if epoch == known.head.epoch => {}
                _ => return Err(LogError::Contended),
            }
        }
        Err(StoreError::Unavailable("a log could not be sealed".to_owned()).into())
    }

    /// Begins, or begins again, to purge a sealed log; `None` if that is finished.
    pub(crate) async fn begin_purge(&self, sealed: &Known) -> Result<Option<Purge<M>>, LogError> {
        let env = &self.inner.env;
        if sealed.head.is_purged() {
            return Ok(None);
        }
        if read::in_bucket(&*env.store, self.key, sealed.bucket(), Consistency::Serial)
            .await?
            .is_none_or(|found| found.head.is_purged())
        {
            return Ok(None);
        }
        // Whoever reads the log looks at it once more. The seal stands where the next row would.
        env.moved.moved(self.key, sealed.seq().next());
        let mut machine = (self.inner.make)();
        machine.purge(self.key, &sealed.head).await?;
        Ok(Some(Purge { machine, last: sealed.bucket() }))
    }

    /// Deletes the rows of a bucket and what only they name. With those of the last one the purge is finished.
    pub(crate) async fn purge_bucket(&self, purge: &mut Purge<M>, bucket: Bucket) -> Result<(), LogError> {
        let store = &*self.inner.env.store;
        for _ in 0..FENCE_TRIES {
            let Some(found) = read::in_bucket(store, self.key, bucket, Consistency::Serial).await? else {
                return Ok(());
            };
            if found.head.is_purged() {
                return Ok(());
            }
            self.purge_rows(&mut purge.machine, bucket).await?;
            if bucket == purge.last {
                purge.machine.purge_rows(self.key, &[]).await?;
            }
            if planted(Mutation::PurgeDropsHead) {
                return Ok(store.drop_partition(&schema::LOG, partition(self.key, bucket)).await?);
            }
            let int = |seq: Seq| Value::Int(seq.to_i64());
            let gone = Change::DeleteRange { first: int(bucket.first_seq()), last: int(bucket.last_seq()) };
            let expect = Expect::Guards(found.head.seq.to_i64(), found.head.epoch.get());
            let condition = Condition { row: head_key(), expect };
            let changes = vec![gone, Change::Put(found.head.purged().to_row())];
            match store.cas(&schema::LOG, partition(self.key, bucket), condition, changes).await {
                Ok(Cas::Applied) => return Ok(()),
                // Done, by this process or by another one, or not at all: the head says which.
                Ok(Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Unavailable("a bucket could not be purged".to_owned()).into())
    }

    async fn purge_rows(&self, machine: &mut M, bucket: Bucket) -> Result<(), LogError> {
        let mut from = bucket.first_seq();
        loop {
            let (rows, next) = read::some_of(&*self.inner.env.store, self.key, from, PAGE).await?;
            self.forget_transactions(&rows).await?;
            if !rows.is_empty() {
                machine.purge_rows(self.key, &rows).await?;
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    async fn forget_transactions(&self, rows: &[LogRow]) -> Result<(), LogError> {
        let LogKey { tenant, log, .. } = self.key;
        let named = rows.iter().filter_map(|row| Some((row.device.as_deref()?, row.txn.as_deref()?)));
        let partitions: Vec<_> = named.map(|(device, txn)| values_of![tenant, log, device, txn]).collect();
        let store = &self.inner.env.store;
        stream::iter(partitions)
            .map(|partition| store.drop_partition(&schema::TRANSACTIONS, partition))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(())
    }
}
