//! Sending: into many rooms, and into one that all senders share.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tokio::task::JoinSet;

use crate::error::LoadError;
use crate::matrix::{self, User};
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Sizes of `send-many`.
#[derive(Args, Clone, Debug)]
pub struct Many {
    /// Senders at once.
    #[arg(long, default_value_t = 32)]
    pub senders: usize,
    /// Rooms in all, shared out evenly.
    #[arg(long, default_value_t = 320)]
    pub rooms: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 30_000)]
    pub messages: usize,
}

/// Sizes of `send-hot`.
#[derive(Args, Clone, Debug)]
pub struct Hot {
    /// Senders at once.
    #[arg(long, default_value_t = 32)]
    pub senders: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 30_000)]
    pub messages: usize,
}

/// A sender and the rooms it sends to in turn.
pub(super) type Sender = (User, Arc<[String]>);

impl Many {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let each = self.rooms.div_ceil(self.senders.max(1)).max(1);
        let mut senders = Vec::with_capacity(self.senders);
        for mut user in matrix::register_many(target, self.senders).await? {
            let mut rooms = Vec::with_capacity(each);
            for _ in 0..each {
                rooms.push(user.create_room().await?);
            }
            senders.push((user, rooms.into()));
        }
        let meter = Meter::start(target)?;
        let (_, tally) = send_all(senders, self.messages).await?;
        let detail = format!("{} senders, {} rooms", self.senders, each * self.senders);
        Ok(vec![meter.finish("send-many", detail, tally)?])
    }
}

impl Hot {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let senders = in_one_room(target, self.senders).await?;
        let meter = Meter::start(target)?;
        let (_, tally) = send_all(senders, self.messages).await?;
        Ok(vec![meter.finish("send-hot", format!("{} senders", self.senders), tally)?])
    }
}

/// Senders that are all in one new room.
pub(super) async fn in_one_room(target: &Target, count: usize) -> Result<Vec<Sender>, LoadError> {
    let mut users = matrix::register_many(target, count.max(1)).await?;
    let room = users[0].create_room().await?;
    matrix::join_all(&mut users[1..], &room).await?;
    let rooms: Arc<[String]> = Arc::from([room]);
    Ok(users.into_iter().map(|user| (user, Arc::clone(&rooms))).collect())
}

/// Sends `messages` in all, every sender one after another; gives the senders back.
pub(super) async fn send_all(senders: Vec<Sender>, messages: usize) -> Result<(Vec<Sender>, Tally), LoadError> {
    let count = senders.len().max(1);
    let mut tasks = JoinSet::new();
    for (index, (mut user, rooms)) in senders.into_iter().enumerate() {
        let share = messages / count + usize::from(index < messages % count);
        tasks.spawn(async move {
            let mut tally = Tally::new()?;
            for room in rooms.iter().cycle().take(share) {
                let began = Instant::now();
                let outcome = user.send(room, "a message of an ordinary length, as people write them").await;
                tally.note(began.elapsed(), outcome);
            }
            Ok::<_, LoadError>(((user, rooms), tally))
        });
    }
    let mut sum = Tally::new()?;
    let mut back = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        let (sender, tally) = done??;
        back.push(sender);
        sum.add(tally)?;
    }
    Ok((back, sum))
}
