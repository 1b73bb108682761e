//! `kill -9` of any process at any moment under load, processes that come and go, and what clients saw of it.

use std::time::Duration;

use polity_tests::{
    cluster::{Cluster, Shape, Tier},
    load::Load,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    given, own, seed,
    stored::{self, LEAVE},
};

/// One process is killed, most often while the others run, sometimes while others start; it comes back after a while.
async fn kill_one(cluster: &mut Cluster, load: &Load, random: &mut StdRng, kill: u64) {
    let names: Vec<(Tier, usize)> = cluster.running().map(|instance| (instance.tier, instance.number)).collect();
    let (tier, number) = *names.choose(random).expect("processes run");
    if random.random_range(0..4) > 0 {
        for (tier, number) in names {
            cluster.ready(tier, number).await;
        }
    }
    let pause = Duration::from_millis(random.random_range(5..400));
    tokio::time::sleep(pause).await;
    cluster.kill(tier, number);
    load.note(format!("number {kill}: {tier} {number} after {pause:?}"));
    // One in twenty stays away for so long that others see to what it has left; the others are back at once.
    let away = if random.random_range(0..20) == 0 { 14_000 } else { random.random_range(0..300) };
    tokio::time::sleep(Duration::from_millis(away)).await;
    cluster.launch(tier, number);
    load.note(format!("number {kill}: {tier} {number} comes back after {away} ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_any_process_is_killed() {
    let mut on = own(Shape::for_tests()).await;
    let (cluster, seed) = (&mut on.cluster, seed());
    let (mut load, mut random) = (Load::start(&cluster.url(), seed).await, StdRng::seed_from_u64(seed));
    for kill in 0..given("POLITY_CLUSTER_KILLS").unwrap_or(100) {
        kill_one(cluster, &load, &mut random, kill).await;
        if load.has_a_fault() {
            break;
        }
    }
    all_ready(cluster).await;
    println!("{} events were acknowledged", load.acknowledged().await);
    load.finish().await;
    load.stands_in(&stored::at_rest(cluster).await).await;
    cluster.assert_no_panic();
}

async fn all_ready(cluster: &mut Cluster) {
    let names: Vec<(Tier, usize)> = cluster.running().map(|instance| (instance.tier, instance.number)).collect();
    for (tier, number) in names {
        cluster.ready(tier, number).await;
    }
    cluster.behind_the_proxy().await;
}

/// Processes join and leave while requests flow: nobody else is told, and nobody is refused for long.
#[tokio::test(flavor = "multi_thread")]
async fn processes_join_and_leave_under_load() {
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut load = Load::start(&cluster.url(), seed()).await;
    for tier in [Tier::RoomState, Tier::ClientApi] {
        let before = load.acknowledged().await;
        let number = cluster.add(tier).await.expect("a free place");
        load.note(format!("{tier} {number} joined"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        for leaver in [1, number] {
            assert!(cluster.leave(tier, leaver, LEAVE).await, "{tier} {leaver} didn't end by itself");
            load.note(format!("{tier} {leaver} left"));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        cluster.restart(tier, 1).await;
        assert!(load.acknowledged().await > before + 20, "hardly anything was acknowledged meanwhile");
        assert!(!load.has_a_fault(), "somebody found a fault");
    }
    load.finish().await;
    cluster.assert_no_panic();
}
