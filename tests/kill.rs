//! `kill -9` at any moment under load: every acknowledged event is there, once, in order; each transaction gave one event; syncs go
//! on from their tokens without a gap or a repeat.

use polity_tests::kill::{Plan, run};
use rand::RngExt;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = given("POLITY_KILLS").unwrap_or(200);
    let seed = given("POLITY_SEED").unwrap_or_else(|| rand::rng().random());
    println!("POLITY_SEED={seed}");
    run(Plan { kills: usize::try_from(kills).expect("a count"), seed }).await;
}
