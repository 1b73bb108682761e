//! Two that think they own a room: a process that is stopped and goes on later can't fork it, nor pass off what it remembers as new.

use std::time::{Duration, Instant};

use polity_tests::{
    cluster::{Shape, Tier},
    load::Load,
};
use serde_json::json;

use super::{own, seed};

/// Stopped for less and for more than others wait before they steal a room, and before they close a process.
const STOPPED_S: [u64; 4] = [1, 4, 3, 14];

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_owner_that_goes_on_forks_no_room() {
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut load = Load::start(&cluster.url(), seed()).await;
    for (turn, seconds) in STOPPED_S.into_iter().enumerate() {
        let number = turn % 2 + 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.instance(Tier::RoomState, number).signal("STOP");
        load.note(format!("room-state {number} is stopped"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        cluster.instance(Tier::RoomState, number).signal("CONT");
        load.note(format!("room-state {number} goes on after {seconds} s"));
        assert!(!load.has_a_fault(), "somebody found a fault");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    // One that was closed meanwhile may have ended; it comes back.
    for number in [1, 2] {
        cluster.restart(Tier::RoomState, number).await;
    }
    load.finish().await;
    cluster.assert_no_panic();
}

/// Of the rooms of a killed owner each takes messages again within 3 s; others don't notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_costs_its_rooms_three_seconds_and_others_nothing() {
    const ROOMS: usize = 12;
    // The promise is 3 s; the machine has other things to do.
    const AT_MOST: Duration = Duration::from_secs(5);
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut founded = Vec::new();
    for at in 0..ROOMS {
        // Whoever made a room has it at first; founders are spread over processes.
        let mut client = cluster.client();
        client.register(&format!("founder{at}"), "a long password").await.expect("an account");
        let room = client.create_room(json!({})).await.expect("a room");
        founded.push((client, room));
    }
    cluster.kill(Tier::RoomState, 1);
    let killed = Instant::now();
    let sends = founded.iter().map(async |(client, room)| {
        while let Err(failure) = client.send(room, "after", "after").await {
            assert!(killed.elapsed() < Duration::from_secs(20), "a room takes no messages any more: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        killed.elapsed()
    });
    let mut took: Vec<Duration> = futures_util::future::join_all(sends).await;
    took.sort_unstable();
    println!("rooms take messages again after {took:?}");
    assert!(took[ROOMS - 1] < AT_MOST, "a room took no message for {:?}", took[ROOMS - 1]);
    let unharmed = took.iter().filter(|took| **took < Duration::from_millis(500)).count();
    assert!(unharmed > 0, "no room went on as if nothing had happened");
}
