//! The sync engine: what is new to a client, worked out room by room.

mod answer;
mod budget;
mod collect;
mod error;
mod heroes;
mod joined;
mod key_changes;
mod lazy;
mod left;
mod news;
mod own;
mod pass;
mod power;
mod progress;
mod redactions;
mod request;
mod room;
mod settings;
mod sharing;
mod state;
mod stretch;
mod token;
mod undone;
mod unread;
mod visibility;
mod wait;
mod window;

use std::sync::Arc;

use polity_accounts::Accounts;
use polity_cluster::digest::Writers;
use polity_core::{Clock, Random, sync_token::RoomsHeld};
use polity_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    ephemeral::Ephemeral,
    heads::HeadMap,
    live::Interest,
    metric,
    read::{Rooms, StoredRow},
};

pub use answer::{Answer, JoinedRoom, LeftRoom, StateSection, Summary, Timeline, Unread};
pub use budget::{AnswerBudget, Share};
pub use error::SyncError;
pub use key_changes::KeyChanges;
pub use lazy::SentMembers;
pub use own::Own;
pub use request::{SyncRequest, Viewer};
pub use settings::{Settings, SettingsCache};
pub use unread::UnreadCounts;

/// The engine: one a process. It has no truth of its own.
pub struct Engine {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Users.
    pub accounts: Arc<Accounts>,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// How far logs have come.
    pub heads: Arc<HeadMap>,
    /// What is users' own.
    pub own: Own,
    /// Unread counts worked out before.
    pub unread: UnreadCounts,
    /// What users have set.
    pub settings: SettingsCache,
    /// Members that devices have, where they load them lazily.
    pub sent_members: SentMembers,
    /// How many rooms a token holds.
    pub rooms_held: RoomsHeld,
    /// The memory of large answers.
    pub answers: Arc<AnswerBudget>,
    /// Who waits.
    pub interest: Arc<Interest<StoredRow>>,
    /// Typing and receipts.
    pub ephemeral: Arc<Ephemeral>,
    /// Who else writes what it reads.
    pub writers: Writers,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Cancelled when the process ends: who waits is answered then.
    pub stop: CancellationToken,
}

impl Engine {
    /// Tells how full the caches are. Call it every few seconds.
    pub fn tell_sizes(&self) {
        self.rooms.tell_sizes();
        metric::bytes("live_rows", self.interest.bytes() as u64);
        self.heads.tell_size();
        self.unread.tell_sizes();
        self.settings.tell_size();
        self.answers.tell_size();
    }
}
