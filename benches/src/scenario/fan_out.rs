//! Fan-out: one sender, many waiting syncs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;

use super::idle_syncs::{self, Waiter};
use crate::error::LoadError;
use crate::matrix;
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Precedes the number in a message's text.
const MARK: &str = "fan-out message ";
/// How long one message may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(60);
/// After everybody has a message, time for them to wait again.
const SETTLE: Duration = Duration::from_millis(100);

/// Sizes of `fan-out`.
#[derive(Args, Clone, Debug)]
pub struct FanOut {
    /// Waiting syncs.
    #[arg(long, default_value_t = 500)]
    pub syncs: usize,
    /// Messages, one after another.
    #[arg(long, default_value_t = 50)]
    pub messages: usize,
}

/// What the sender and the waiters share.
#[derive(Debug)]
struct Board {
    began: Instant,
    /// When each message was sent, in microseconds after `began`.
    sent: Vec<AtomicU64>,
    delivered: AtomicUsize,
}

impl FanOut {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut users = matrix::register_many(target, self.syncs + 1).await?;
        let Some(mut sender) = users.pop() else { return Ok(Vec::new()) };
        let room = sender.create_room().await?;
        matrix::join_all(&mut users, &room).await?;
        let waiters = idle_syncs::caught_up(users).await?;
        let board = Arc::new(Board {
            began: Instant::now(),
            sent: (0..self.messages).map(|_| AtomicU64::new(0)).collect(),
            delivered: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for waiter in waiters {
            tasks.spawn(wait(waiter, Arc::clone(&board)));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let meter = Meter::start(target)?;
        for number in 0..self.messages {
            let now = u64::try_from(board.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            board.sent[number].store(now, Ordering::Relaxed);
            sender.send(&room, &format!("{MARK}{number};")).await?;
            board.everybody_has((number + 1) * self.syncs).await?;
            tokio::time::sleep(SETTLE).await;
        }
        let mut sum = Tally::new()?;
        while let Some(done) = tasks.join_next().await {
            sum.add(done??)?;
        }
        Ok(vec![meter.finish("fan-out", format!("{} syncs, {} messages", self.syncs, self.messages), sum)?])
    }
}

impl Board {
    async fn everybody_has(&self, deliveries: usize) -> Result<(), LoadError> {
        let began = Instant::now();
        while self.delivered.load(Ordering::Relaxed) < deliveries {
            if began.elapsed() > PATIENCE {
                return Err(LoadError::Late("deliveries of a message"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// Syncs until it has seen every message once.
async fn wait(waiter: Waiter, board: Arc<Board>) -> Result<Tally, LoadError> {
    let Waiter { mut user, mut since } = waiter;
    let mut tally = Tally::new()?;
    let mut next = 0;
    while next < board.sent.len() {
        let (batch, body) = user.sync(Some(&since), 30_000).await?;
        since = batch.next_batch;
        let text = std::str::from_utf8(&body).map_err(|error| LoadError::Shape(error.to_string()))?;
        for (number, _) in numbers(text) {
            let Some(sent) = board.sent.get(number).filter(|_| number == next) else {
                return Err(LoadError::Shape(format!("message {number} where {next} was due")));
            };
            let sent = Duration::from_micros(sent.load(Ordering::Relaxed));
            tally.note(board.began.elapsed().saturating_sub(sent), Ok(()));
            next += 1;
            board.delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(tally)
}

/// The numbers of the messages in a body, each with where it stands.
fn numbers(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.match_indices(MARK).filter_map(|(at, _)| {
        let rest = &text[at + MARK.len()..];
        Some((rest.split_once(';')?.0.parse().ok()?, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_messages_in_order() {
        let text = r#"{"body":"fan-out message 3;"},{"body":"fan-out message 12;"},"fan-out message x;""#;
        assert_eq!(numbers(text).map(|(number, _)| number).collect::<Vec<_>>(), [3, 12]);
    }
}
