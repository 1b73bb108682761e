//! A process that is killed again and again under load.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{Sandbox, Stopped, load::Load};

/// How long the server takes to end, at most: longer than it allows itself.
const ENDS: Duration = Duration::from_secs(60);

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
/// When something that was acknowledged is lost, doubled or out of order, or hardly anything was acknowledged.
pub async fn run(plan: Plan) {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut load = Load::start(&sandbox.url(), plan.seed).await;
    kill_again_and_again(&mut sandbox, &load, plan).await;
    let acknowledged = load.acknowledged().await;
    load.finish().await;
    sandbox.signal("TERM");
    assert!(sandbox.ended(ENDS).await.success(), "{}", sandbox.said());
    load.stands_in(&Stopped::of(&sandbox)).await;
    assert!(acknowledged > 3, "only {acknowledged} events were sent between the kills");
    sandbox.assert_no_panic();
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
