//! The end of a log, as its task goes about it.

use polity_core::Bucket;

use super::{TRIES, Task, fail};
use crate::{Asked, LogError, Machine, Writers, append::Known, logs::Order, purge::Purge};

impl<M: Machine> Task<M> {
    /// Seals the log, if it isn't, and sees to it that all that is to go is gone; whether there was anything.
    pub(super) async fn purge(&mut self, asked: Asked) -> Result<bool, LogError> {
        if self.log.inner.writers == Writers::One && asked.forwarded && self.held.is_none() {
            return Err(LogError::NotHeld);
        }
        for lost in 0..TRIES {
            match self.ensure(false, asked.claim).await {
                Ok(()) => {}
                Err(LogError::Sealed) => return Ok(true),
                Err(error) => return Err(error),
            }
            let Some(mut held) = self.held.take() else { return Err(LogError::Ended) };
            if held.known.of_rows().is_none() {
                if self.log.is_current(&held.known).await? {
                    self.held = Some(held);
                    return Ok(false);
                }
                continue;
            }
            // The hint to the head that stays.
            self.log.note_projected(&mut held).await?;
            // Whatever fails from here on: the seal may be under way.
            (self.doubt, self.owes) = (true, true);
            match self.log.seal(&held.known).await {
                Ok(sealed) => return self.finish_purge(&sealed).await.map(|()| true),
                // Somebody else has fenced the log: begun anew.
                Err(LogError::Contended) => self.log.pause(lost).await,
                Err(error) => return Err(error),
            }
        }
        Err(LogError::Contended)
    }

    /// Does whatever is left to do for a log that is sealed, however often it takes. Whoever asks for it meanwhile is refused at once.
    ///
    /// # Errors
    /// It can never be done.
    pub(super) async fn finish_purge(&mut self, sealed: &Known) -> Result<(), LogError> {
        self.owes = true;
        let mut asked_too = Vec::new();
        let mut under_way = None;
        let mut outcome = self.try_purge(sealed, &mut asked_too, &mut under_way).await;
        for attempt in 0.. {
            match &outcome {
                Err(error) if !error.is_permanent() => {
                    tracing::warn!(%error, log = %self.log.key, "a log isn't purged yet");
                }
                _ => break,
            }
            self.log.pause(attempt).await;
            outcome = self.try_purge(sealed, &mut asked_too, &mut under_way).await;
        }
        if outcome.is_ok() {
            self.owes = false;
            self.note_loaded();
        }
        for order in asked_too {
            match order {
                Order::Purge(_, done) => drop(done.send(outcome.clone().map(|()| true))),
                Order::Recover(done) => drop(done.send(outcome.clone().and(Err(LogError::Sealed)))),
                Order::Command(_) | Order::Unload => {}
            }
        }
        outcome
    }

    /// Goes on where an earlier try has failed.
    async fn try_purge(
        &mut self,
        sealed: &Known,
        asked_too: &mut Vec<Order<M>>,
        under_way: &mut Option<(Purge<M>, Bucket)>,
    ) -> Result<(), LogError> {
        self.refuse_waiting(asked_too);
        let (mut purge, mut bucket) = match under_way.take() {
            Some(under_way) => under_way,
            None => match self.log.begin_purge(sealed).await? {
                Some(purge) => (purge, Bucket::FIRST),
                None => return Ok(()),
            },
        };
        while bucket <= sealed.bucket() {
            self.refuse_waiting(asked_too);
            if let Err(error) = self.log.purge_bucket(&mut purge, bucket).await {
                *under_way = Some((purge, bucket));
                return Err(error);
            }
            bucket = bucket.next();
        }
        Ok(())
    }

    /// Answers the commands that wait: there is no log for them. Who asks for what is being done waits until it is.
    fn refuse_waiting(&mut self, asked_too: &mut Vec<Order<M>>) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Command(waiting) => fail::<M>(std::iter::once(*waiting), &LogError::Sealed),
                // It ends as soon as this is done.
                Order::Unload => {}
                order => asked_too.push(order),
            }
        }
    }
}
