//! The first sync of a user with many rooms.

use std::collections::HashMap;
use std::time::Instant;

use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::LoadError;
use crate::matrix::User;
use crate::meter::{Meter, Tally};
use crate::report::Row;
use crate::target::Target;

/// Messages in each room.
const MESSAGES: usize = 5;

/// Sizes of `initial-sync`.
#[derive(Args, Clone, Debug)]
pub struct InitialSync {
    /// Rooms the user is in.
    #[arg(long, default_value_t = 200)]
    pub rooms: usize,
    /// How often it is done.
    #[arg(long, default_value_t = 20)]
    pub repetitions: usize,
}

#[derive(Deserialize)]
struct Answer {
    rooms: Rooms,
}

#[derive(Deserialize)]
struct Rooms {
    join: HashMap<String, IgnoredAny>,
}

impl InitialSync {
    /// Runs it.
    pub(super) async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        let mut user = User::register(target).await?;
        for _ in 0..self.rooms {
            let room = user.create_room().await?;
            for _ in 0..MESSAGES {
                user.send(&room, "one of a few").await?;
            }
        }
        let meter = Meter::start(target)?;
        let mut tally = Tally::new()?;
        for repetition in 0..self.repetitions {
            // A server may answer an identical sync from a cache of answers. A first sync doesn't wait, whatever its timeout,
            // so a different timeout each time makes it a different request for the same work.
            let timeout_ms = 1 + repetition as u64;
            let began = Instant::now();
            let outcome = user.sync(None, timeout_ms).await;
            let took = began.elapsed();
            tally.note(took, outcome.and_then(|(_, body)| complete(&body, self.rooms)));
        }
        Ok(vec![meter.finish("initial-sync", format!("{} rooms", self.rooms), tally)?])
    }
}

fn complete(body: &[u8], rooms: usize) -> Result<(), LoadError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| LoadError::Shape(error.to_string()))?;
    let found = answer.rooms.join.len();
    if found == rooms { Ok(()) } else { Err(LoadError::Shape(format!("{found} of {rooms} rooms"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_room_is_an_error() {
        let body = br#"{"next_batch":"x","rooms":{"join":{"!a":{},"!b":{}}}}"#;
        assert!(complete(body, 2).is_ok());
        assert!(complete(body, 3).is_err());
        assert!(complete(b"{}", 0).is_err());
    }
}
