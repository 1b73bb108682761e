//! Load on a server that is killed again and again, and what must hold then.
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
use world::World;

/// How the server is treated.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often it is killed.
    pub kills: usize,
    /// Decides the pauses, and what the actors do.
    pub seed: u64,
}

/// Runs the plan.
///
/// # Panics
/// When something that was acknowledged is lost, doubled or out of order.
pub async fn run(plan: Plan) {
    let mut sandbox = Sandbox::start(&[]).await;
    let world = Arc::new(World::new(&sandbox, plan.seed).await);
    let (acting, following, reading) = (acts::start(&world), acts::follow(&world), reader::start(&world));
    let any_ended = || {
        let mut all = acting.iter().chain(&following).map(JoinHandle::is_finished);
        all.any(|ended| ended) || reading.iter().any(JoinHandle::is_finished)
    };
    kill_again_and_again(&mut sandbox, &world, plan, any_ended).await;
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
    sandbox.assert_no_panic();
}

/// Kills it as the plan says; none of the actors ends before it is told to, unless it found a fault.
async fn kill_again_and_again(sandbox: &mut Sandbox, world: &World, plan: Plan, any_ended: impl Fn() -> bool) {
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
        world.journal.note("kill", format!("number {kill}, {pause:?} after it was {from}"));
        sandbox.launch();
        if any_ended() {
            break;
        }
    }
    sandbox.ready().await;
}
