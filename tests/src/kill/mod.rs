//! Load on a server whose processes are killed again and again, and what must hold then.
//!
//! Every actor of [`acts`] does one kind of thing, asks until it is answered, and notes what it was promised. The readers follow
//! by sync. At the end [`check`] compares promises, readers and the stored rooms. A fault is told with the seed and with what
//! happened to whatever it is about.

mod acts;
mod check;
mod journal;
mod pages;
mod reader;
mod world;

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::Sandbox;
use reader::Seen;
use world::World;

/// How the server is treated.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often it is killed.
    pub kills: usize,
    /// Decides the pauses, and what the actors do.
    pub seed: u64,
}

/// Runs the plan on one process.
///
/// # Panics
/// When something that was acknowledged is lost, doubled or out of order.
pub async fn run(plan: Plan) {
    let mut sandbox = Sandbox::start(&[]).await;
    let load = Load::start(&sandbox.url(), plan.seed).await;
    kill_again_and_again(&mut sandbox, &load, plan).await;
    load.finish().await;
    sandbox.assert_no_panic();
}

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
        let world = Arc::new(World::new(url, seed).await);
        let (acting, following, reading) = (acts::start(&world), acts::follow(&world), reader::start(&world));
        Self { world, acting, following, reading }
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

    /// Ends the work and looks whether every promise was kept. The server must answer by now.
    ///
    /// # Panics
    /// When something that was acknowledged is lost, doubled or out of order.
    pub async fn finish(self) {
        let Self { world, acting, following, reading } = self;
        world.done.store(true, Ordering::SeqCst);
        for task in acting {
            task.await.expect("an actor found a fault");
        }
        world.quiet.store(true, Ordering::SeqCst);
        for task in following {
            task.await.expect("a follower found a fault");
        }
        let mut seen = Vec::new();
        for task in reading {
            seen.push(task.await.expect("a reader found a fault"));
        }
        check::everything(&world, &seen).await;
    }
}

/// Kills it as the plan says, until somebody finds a fault.
async fn kill_again_and_again(sandbox: &mut Sandbox, load: &Load, plan: Plan) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    for kill in 0..plan.kills {
        // One of five is killed while it starts.
        let from = if random.random_range(0..5) == 0 { "launched" } else { "ready" };
        if from == "ready" {
            sandbox.ready().await;
        }
        let pause = Duration::from_millis(random.random_range(5..250));
        tokio::time::sleep(pause).await;
        sandbox.kill().await;
        load.note(format!("number {kill}, {pause:?} after it was {from}"));
        sandbox.launch();
        if load.has_a_fault() {
            break;
        }
    }
    sandbox.ready().await;
}
