//! Load of every kind on a server that is treated badly, and what must hold then: for the kill tests, on real processes, and for the
//! simulation.
//!
//! Every actor of [`acts`] does one kind of thing, asks until it is answered, and notes what it was promised. The readers follow
//! by sync. At the end [`check`] compares promises, readers and the stored rooms. A fault is told with the seed and with what
//! happened to whatever it is about.

mod acts;
mod check;
mod derived;
mod journal;
mod mix;
mod pages;
mod reader;
mod residents;
pub(crate) mod rows;
mod speakers;
mod synced;
mod told;
mod unread;
mod visited;
mod world;

use std::{
    panic::resume_unwind,
    sync::{Arc, atomic::Ordering},
};

use polity_core::SystemRandom;
use polity_log::Names;
use polity_room_state::ROOM_LOG;
use tokio::task::JoinHandle;

use crate::{Client, Stopped};
pub use journal::Journal;
pub use mix::{Actor, Mix};
use reader::Seen;
pub use residents::Residents;
use world::World;

/// All actors and readers, at work.
pub struct Load {
    world: Arc<World>,
    acting: Vec<JoinHandle<()>>,
    following: Vec<JoinHandle<()>>,
    reading: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Makes users and rooms on the server at this URL and sets everybody to work. The seed decides what they do.
    ///
    /// # Panics
    /// When the server doesn't let them begin.
    pub async fn start(url: &str, seed: u64) -> Self {
        let stranger = Client::new(url);
        let residents = Residents::settle(&stranger).await;
        Self::of(stranger, residents, Arc::new(Journal::new(seed)), Mix::whole())
    }

    /// Sets those to work who are in the mix, at the server that this client knows the way to and has these residents.
    #[must_use]
    pub fn of(stranger: Client, residents: Residents, journal: Arc<Journal>, mix: Mix) -> Self {
        let world = Arc::new(World::new(stranger, residents, journal, &mix));
        let acting = mix.actors.iter().map(|actor| acts::start(*actor, &world)).collect();
        let reading = mix.readers.iter().map(|reader| reader::start(*reader, &world)).collect();
        Self { acting, following: acts::follow(&world, &mix), reading, world }
    }

    /// The log of each room that is written to is what it must be, in the store of servers that have ended in order.
    ///
    /// # Panics
    /// When a row is missing, or what is derived from one.
    pub async fn stands_in(&self, Stopped { store, tenant }: &Stopped) {
        let names = Names::new(Arc::clone(store), Arc::new(SystemRandom), ROOM_LOG);
        for room in self.rooms() {
            rows::check_room(&**store, &names, (*tenant, room), &self.world.journal).await;
        }
    }

    /// Notes what was done to the server, for whoever must find out why something went wrong.
    pub fn note(&self, what: String) {
        self.world.journal.note("kill", what);
    }

    /// Whether somebody has ended, which nobody does before [`Load::finish`] unless he found a fault.
    #[must_use]
    pub fn has_a_fault(&self) -> bool {
        let mut working = self.acting.iter().chain(&self.following);
        working.any(JoinHandle::is_finished) || self.reading.iter().any(JoinHandle::is_finished)
    }

    /// How many events were acknowledged so far.
    pub async fn acknowledged(&self) -> usize {
        self.world.promised.lock().await.len()
    }

    /// The rooms that are written to.
    #[must_use]
    pub fn rooms(&self) -> &[String] {
        &self.world.rooms
    }

    /// The room of another tenant, if there is one.
    #[must_use]
    pub fn room_elsewhere(&self) -> Option<&str> {
        self.world.neighbour.as_ref().map(|(_, room)| &**room)
    }

    /// Ends the work and looks whether every promise was kept. The server must answer by now.
    ///
    /// # Panics
    /// When something that was acknowledged is lost, doubled or out of order.
    pub async fn finish(&mut self) {
        self.world.done.cancel();
        ended(&mut self.acting).await;
        self.world.quiet.store(true, Ordering::SeqCst);
        ended(&mut self.following).await;
        let seen = ended(&mut self.reading).await;
        check::everything(&self.world, &seen).await;
    }
}

/// Waits for tasks; whoever found a fault ends this one with it, too.
async fn ended<T>(tasks: &mut Vec<JoinHandle<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for task in tasks.drain(..) {
        all.push(task.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
    }
    all
}
