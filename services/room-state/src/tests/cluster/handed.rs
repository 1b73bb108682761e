//! Rooms are handed on and over while all processes are well.

use super::*;

#[tokio::test]
async fn a_room_is_written_by_its_owner_whoever_is_asked() {
    let processes = cluster(3).await;
    let room = processes[0].create().await;
    for n in 0..30 {
        processes[n % 3].send(&room, &n.to_string()).await.unwrap();
        // The same again, elsewhere.
        processes[(n + 1) % 3].send(&room, &n.to_string()).await.unwrap();
    }
    let head = processes[0].head(&room).await;
    assert_eq!((head.writer, head.epoch.get()), (processes[0].id(), 1), "nobody took it, nobody fenced it");
    assert_eq!(processes[0].messages(&room).await, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_does_not_have_the_room_open_leaves_it_to_who_is_asked_without_a_fence() {
    let processes = cluster(2).await;
    let room = processes[0].create().await;
    assert!(processes[0].service.drain(Duration::from_secs(5)).await);
    let began = Instant::now();
    processes[1].send(&room, "1").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let head = processes[1].head(&room).await;
    assert_eq!((head.writer, head.epoch.get()), (processes[1].id(), 1));
}

#[tokio::test]
async fn a_room_that_only_others_ask_for_moves_to_them() {
    let processes = cluster(2).await;
    let room = processes[0].create().await;
    // Routing has changed: from now on the second one is asked.
    for n in 0..30 {
        processes[1].send(&room, &n.to_string()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let head = processes[1].head(&room).await;
    assert_eq!((head.writer, head.epoch.get()), (processes[1].id(), 1));
}

#[tokio::test]
async fn two_that_are_both_asked_end_by_forwarding_and_do_not_duel() {
    let processes = cluster(2).await;
    let room = processes[0].create().await;
    let moves = Mutex::new(vec![processes[0].id()]);
    let until = Instant::now() + Duration::from_secs(3);
    let counts = Mutex::new([0_u32; 2]);
    let senders = (0..8).map(|sender: usize| {
        let (process, room, counts) = (&processes[sender % 2], &room, &counts);
        async move {
            let mut n = 0;
            while Instant::now() < until {
                process.send(room, &format!("{sender}/{n}")).await.unwrap();
                counts.lock()[sender % 2] += 1;
                n += 1;
            }
        }
    });
    let watch = async {
        while Instant::now() < until {
            let writer = processes[0].head(&room).await.writer;
            if moves.lock().last() != Some(&writer) {
                moves.lock().push(writer);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(futures_util::future::join_all(senders), watch);
    let counts = counts.into_inner();
    println!("sends per second while two instances disagree: {} and {}", counts[0] / 3, counts[1] / 3);
    assert!(moves.lock().len() <= 3, "{:?}", moves.lock());
    assert_eq!(processes[0].head(&room).await.epoch.get(), 1, "nobody fences");
    assert!(counts.iter().all(|count| *count >= 60), "{counts:?}");
    assert_eq!(processes[0].messages(&room).await.len() as u32, counts[0] + counts[1]);
}

#[tokio::test]
async fn who_leaves_hands_its_rooms_over_at_once() {
    let processes = cluster(2).await;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(processes[0].create().await);
    }
    let leave = async {
        assert!(processes[0].service.drain(Duration::from_secs(5)).await);
        assert!(processes[0].registry.leave().await.unwrap(), "nothing is left");
    };
    let sends = futures_util::future::join_all(rooms.iter().map(|room| processes[1].send_at_last(room, "1")));
    let ((), took) = tokio::join!(leave, sends);
    assert!(took.iter().all(|took| *took < Duration::from_millis(900)), "{took:?}");
    for room in &rooms {
        let began = Instant::now();
        processes[1].send(room, "2").await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        let head = processes[1].head(room).await;
        assert_eq!((head.writer, head.epoch.get()), (processes[1].id(), 1), "no fence");
    }
    let refused = processes[0].service.clone().asked(polity_log::Asked::default());
    let client = RoomStateClient::new(polity_proto::local(refused));
    let mut world = World { client, ..processes[0].world.clone() };
    assert!(world.send(ALICE, &rooms[0], "3").await.is_err(), "it opens nothing any more");
}

#[tokio::test]
async fn a_room_that_was_not_begun_gives_its_alias_back() {
    let processes = cluster(2).await;
    assert!(processes[0].service.drain(Duration::from_secs(5)).await);
    let request = || CreateRoomRequest {
        requester: who(ALICE),
        room_version: "12".into(),
        preset: Preset::PublicChat.into(),
        alias: Some("#a:t7.test".into()),
        ..Default::default()
    };
    let leaving = processes[0].service.clone().asked(polity_log::Asked::default());
    let refused = RoomStateClient::new(polity_proto::local(leaving)).create_room(request()).await.unwrap_err();
    assert!(refused.metadata().contains_key(route::NOT_STARTED), "somebody else may be asked: {refused:?}");
    let made = processes[1].world.clone().client.create_room(request()).await.unwrap().into_inner();
    let alias = ruma_common::RoomAliasId::parse("#a:t7.test").unwrap();
    let names = rooms::alias(&*processes[1].world.store, TenantId::new(TENANT), &alias).await.unwrap().unwrap();
    assert_eq!(names.room_id.as_str(), made.room_id);
}
