//! The reconnect storm: everybody comes back at once, with the token they had.

use std::time::Instant;

use clap::Args;
use tokio::task::JoinSet;

use super::idle_syncs::{self, Waiter};
use crate::error::LoadError;
use crate::matrix;
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Sizes of `storm`.
#[derive(Args, Clone, Debug)]
pub struct Storm {
    /// Users.
    #[arg(long, default_value_t = 300)]
    pub users: usize,
    /// Rooms each is in; all are in the same.
    #[arg(long, default_value_t = 10)]
    pub rooms: usize,
}

impl Storm {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut users = matrix::register_many(target, self.users + 1).await?;
        let Some(mut sender) = users.pop() else { return Ok(Vec::new()) };
        let mut rooms = Vec::with_capacity(self.rooms);
        for _ in 0..self.rooms {
            let room = sender.create_room().await?;
            matrix::join_all(&mut users, &room).await?;
            rooms.push(room);
        }
        let mut waiters = idle_syncs::caught_up(users).await?;
        for waiter in &mut waiters {
            waiter.user.connection.close();
        }
        for room in &rooms {
            sender.send(room, "sent while they were away").await?;
        }
        let meter = Meter::start(target)?;
        let mut tasks = JoinSet::new();
        for Waiter { mut user, since } in waiters {
            tasks.spawn(async move {
                let began = Instant::now();
                let outcome = user.sync(Some(&since), 0).await;
                (began.elapsed(), outcome)
            });
        }
        let mut tally = Tally::new()?;
        while let Some(done) = tasks.join_next().await {
            let (took, outcome) = done?;
            tally.note(took, outcome.and_then(|(_, body)| complete(&body, rooms.len())));
        }
        let mut row = meter.finish("storm", format!("{} users, {} rooms", self.users, self.rooms), tally)?;
        row.extra = Some(format!("last after {:.2} s", row.seconds));
        Ok(vec![row])
    }
}

/// Every room's message must be there.
fn complete(body: &[u8], rooms: usize) -> Result<(), LoadError> {
    let text = String::from_utf8_lossy(body);
    let found = text.matches("sent while they were away").count();
    if found == rooms { Ok(()) } else { Err(LoadError::Shape(format!("{found} of {rooms} messages"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_message_is_an_error() {
        assert!(complete(b"sent while they were away, sent while they were away", 2).is_ok());
        assert!(complete(b"sent while they were away", 2).is_err());
    }
}
