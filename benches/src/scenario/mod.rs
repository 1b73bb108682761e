//! The scenarios, one a file.

mod fan_out;
mod grow;
mod history;
mod idle_syncs;
mod initial_sync;
mod join;
mod send;
mod storm;

use clap::Subcommand;

use crate::error::LoadError;
use crate::report::Row;
use crate::target::Target;

/// What to do to a server, and how much of it.
#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Senders into many rooms.
    SendMany(send::Many),
    /// Senders into one room.
    SendHot(send::Hot),
    /// Messages delivered to many waiting syncs.
    FanOut(fan_out::FanOut),
    /// Syncs that wait for nothing.
    IdleSyncs(idle_syncs::IdleSyncs),
    /// Users that come back with their tokens all at once.
    Storm(storm::Storm),
    /// The first sync of a user with many rooms.
    InitialSync(initial_sync::InitialSync),
    /// Joins of rooms of given sizes.
    Join(join::Join),
    /// Pages of 50 messages, backwards.
    History(history::History),
    /// The cost of a send as a room's history grows.
    GrowRoom(grow::Room),
    /// The cost of a send as the number of rooms grows.
    GrowRooms(grow::Rooms),
}

impl Scenario {
    /// Runs it against a target.
    ///
    /// # Errors
    /// When preparing fails; failures of measured operations are in the rows.
    pub async fn run(&self, target: &Target) -> Result<Vec<Row>, LoadError> {
        match self {
            Self::SendMany(sizes) => Box::pin(sizes.run(target)).await,
            Self::SendHot(sizes) => Box::pin(sizes.run(target)).await,
            Self::FanOut(sizes) => Box::pin(sizes.run(target)).await,
            Self::IdleSyncs(sizes) => Box::pin(sizes.run(target)).await,
            Self::Storm(sizes) => Box::pin(sizes.run(target)).await,
            Self::InitialSync(sizes) => Box::pin(sizes.run(target)).await,
            Self::Join(sizes) => Box::pin(sizes.run(target)).await,
            Self::History(sizes) => Box::pin(sizes.run(target)).await,
            Self::GrowRoom(sizes) => Box::pin(sizes.run(target)).await,
            Self::GrowRooms(sizes) => Box::pin(sizes.run(target)).await,
        }
    }

    /// A sensible set: the sizes to be judged by, or with `quick` ones that a slow peer does in a few minutes.
    #[must_use]
    pub fn all(quick: bool) -> Vec<Self> {
        let pick = |full: usize, small: usize| if quick { small } else { full };
        vec![
            Self::SendMany(send::Many { senders: 32, rooms: pick(320, 64), messages: pick(30_000, 600) }),
            Self::SendHot(send::Hot { senders: 32, messages: pick(30_000, 600) }),
            Self::FanOut(fan_out::FanOut { syncs: pick(500, 50), messages: pick(50, 10) }),
            Self::IdleSyncs(idle_syncs::IdleSyncs { syncs: pick(1000, 50), seconds: pick(10, 5) as u64 }),
            Self::Storm(storm::Storm { users: pick(300, 30), rooms: 10 }),
            Self::InitialSync(initial_sync::InitialSync { rooms: pick(200, 50), repetitions: pick(20, 5) }),
            Self::Join(join::Join {
                members: if quick { vec![10, 100] } else { vec![10, 1000] },
                joins: pick(100, 20),
            }),
            Self::History(history::History { messages: pick(5000, 500), pages: pick(1000, 50) }),
        ]
    }
}
