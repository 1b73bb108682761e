//! A process hangs, goes on, or dies while it has rooms.

use polity_log::MemberState;

use super::*;

const CAROL: &str = "@carol:t7.test";

#[tokio::test]
async fn a_hung_owner_loses_its_room_and_neither_forks_it_nor_answers_by_what_it_knew() {
    let processes = cluster(2).await;
    let (room, other) = (processes[0].create().await, processes[1].create().await);
    processes[0].world.clone().member(BOB, &room, BOB, "join").await.unwrap();
    processes[0].fate.is(HUNG);
    // What it was about to do when it stopped.
    let late = polity_core::tasks::spawn({
        let mut world = processes[0].world.clone();
        let room = room.clone();
        async move { world.send(ALICE, &room, "late").await }
    });
    let took = tokio::join!(processes[1].send_at_last(&room, "1"), async {
        for n in 0..50 {
            let began = Instant::now();
            processes[1].send(&other, &n.to_string()).await.unwrap();
            assert!(began.elapsed() < Duration::from_millis(500), "other rooms lose nothing");
        }
    })
    .0;
    assert!(took < Duration::from_secs(4), "{took:?}");
    let mut there = processes[1].world.clone();
    there.member(ALICE, &room, BOB, "kick").await.unwrap();
    there.member(CAROL, &room, CAROL, "join").await.unwrap();
    processes[0].fate.is(WELL);
    let mut back = processes[0].world.clone();
    assert_eq!(back.send(BOB, &room, "kicked").await.unwrap_err().reason, Reason::Forbidden);
    back.send(CAROL, &room, "joined").await.unwrap();
    late.await.unwrap().unwrap();
    assert_eq!(processes[0].send(&room, "1").await.unwrap(), processes[1].send(&room, "1").await.unwrap());
    let mut told = processes[0].messages(&room).await;
    told.sort();
    assert_eq!(told, ["1", "joined", "late"]);
}

/// A call that could have another effect the second time has a name, as clients' sends have a transaction: whoever takes a room from an
/// owner that doesn't answer makes the call again, and finds what had become of it.
#[tokio::test]
async fn what_could_be_done_twice_is_done_once_when_its_owner_hangs_before_or_after_it() {
    for done_before in [false, true] {
        let processes = cluster(2).await;
        let room = processes[0].create().await;
        processes[0].world.clone().member(BOB, &room, BOB, "join").await.unwrap();
        let kick = |client: RoomStateClient<Transport>| {
            let by = Requester { call: vec![7; 16].into(), ..who(ALICE).unwrap() };
            let kick =
                KickUserRequest { requester: Some(by), room_id: room.clone(), user_id: BOB.to_owned(), reason: None };
            let call = route::routed(with_deadline(kick, Duration::from_secs(20)), &route::room(TENANT, &room), true);
            async move { event(client.clone().kick_user(call).await, |answer| answer.event) }
        };
        let before = if done_before { Some(kick(processes[0].world.client.clone()).await.unwrap()) } else { None };
        processes[0].fate.is(HUNG);
        let (began, pending) = (Instant::now(), polity_core::tasks::spawn(kick(processes[0].world.client.clone())));
        let kicked = kick(processes[1].world.client.clone()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(before.is_none_or(|before| before == kicked), "it had been done");
        processes[0].fate.is(WELL);
        assert_eq!(pending.await.unwrap().unwrap(), kicked, "whoever hung finds it, too");
        // Another call is another one.
        let again = processes[1].world.clone().member(ALICE, &room, BOB, "kick").await.unwrap_err();
        assert_eq!(again.reason, Reason::Forbidden);
        let leaves = |row: &RoomRow| row.meta.membership.as_ref().is_some_and(|change| change.membership == "leave");
        assert_eq!(processes[1].world.rows(&room).await.iter().filter(|row| leaves(row)).count(), 1);
    }
}

/// To leave and to join twice is to do it once, but not with the other one in between.
#[tokio::test]
async fn a_leave_that_waited_in_a_hung_owner_undoes_no_join() {
    let processes = cluster(2).await;
    let room = processes[0].create().await;
    processes[0].world.clone().member(BOB, &room, BOB, "join").await.unwrap();
    let leave = |client: RoomStateClient<Transport>| {
        let by = Requester { call: vec![9; 16].into(), ..who(BOB).unwrap() };
        let leave = LeaveRoomRequest { requester: Some(by), room_id: room.clone(), reason: None };
        let call = route::routed(with_deadline(leave, Duration::from_secs(20)), &route::room(TENANT, &room), true);
        async move { event(client.clone().leave_room(call).await, |answer| answer.event) }
    };
    processes[0].fate.is(HUNG);
    let pending = polity_core::tasks::spawn(leave(processes[0].world.client.clone()));
    let left = leave(processes[1].world.client.clone()).await.unwrap();
    processes[1].world.clone().member(BOB, &room, BOB, "join").await.unwrap();
    processes[0].fate.is(WELL);
    assert_eq!(pending.await.unwrap().unwrap(), left, "it is done already");
    processes[0].world.clone().send(BOB, &room, "still here").await.unwrap();
}

#[tokio::test]
async fn an_owner_that_went_on_refuses_nobody_by_what_it_knew() {
    let processes = cluster(2).await;
    let room = processes[0].create().await;
    assert!(processes[0].world.clone().send(CAROL, &room, "early").await.is_err(), "she isn't in it");
    processes[0].fate.is(HUNG);
    processes[1].send_at_last(&room, "1").await;
    processes[1].world.clone().member(CAROL, &room, CAROL, "join").await.unwrap();
    processes[0].fate.is(WELL);
    // Nothing would be appended for a refusal: it is looked whether that is still so.
    processes[0].world.clone().send(CAROL, &room, "now").await.unwrap();
    assert_eq!(processes[0].messages(&room).await, ["1", "now"]);
}

#[tokio::test]
async fn a_killed_owner_costs_its_rooms_three_seconds_and_the_next_one_nothing() {
    let processes = cluster(2).await;
    let (first, second) = (processes[0].create().await, processes[0].create().await);
    processes[0].fate.is(DEAD);
    let took = processes[1].send_at_last(&first, "1").await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let took = processes[1].send_at_last(&second, "1").await;
    assert!(took < Duration::from_secs(1), "it is known to be silent: {took:?}");
}

#[tokio::test]
async fn what_a_closed_process_had_is_finished_within_two_seconds_and_taken_at_once() {
    let processes = cluster(3).await;
    let mut rooms = Vec::new();
    for _ in 0..60 {
        rooms.push(processes[0].create().await);
    }
    processes[0].fate.is(DEAD);
    let began = Instant::now();
    let uses = |process: &Process| -> [Arc<dyn Recover>; 1] { [process.service.recover()] };
    // Two at once do no harm.
    let (one, two) = (uses(&processes[1]), uses(&processes[2]));
    let dead = processes[0].id();
    let (one, two) =
        tokio::join!(recover(&processes[1].registry, dead, &one), recover(&processes[2].registry, dead, &two));
    assert_eq!((one.unwrap(), two.unwrap()), (60, 60));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for (n, room) in rooms.iter().enumerate() {
        let took = processes[1 + n % 2].send_at_last(room, "1").await;
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

#[tokio::test]
async fn who_is_killed_is_closed_by_the_others_and_what_it_had_is_finished_at_once() {
    let processes = cluster(3).await;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(processes[0].create().await);
    }
    let watches = processes.iter().map(|process| polity_core::tasks::spawn(process.watch().run()));
    let watches: Vec<_> = watches.collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    processes[0].fate.is(DEAD);
    let (killed, mut closed) = (Instant::now(), None);
    loop {
        let members = processes[1].registry.members().await.unwrap();
        let states: Vec<MemberState> = members.iter().map(|member| member.state).collect();
        assert_eq!(states[1..], [MemberState::Open; 2], "those that live are left alone");
        if states[0] != MemberState::Open && closed.is_none() {
            closed = Some(Instant::now());
        }
        if states[0] == MemberState::Drained {
            break;
        }
        assert!(killed.elapsed() < Duration::from_secs(25), "it is never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let closed = closed.unwrap();
    assert!(closed - killed >= Duration::from_secs(8), "{:?}", closed - killed);
    assert!(closed.elapsed() < Duration::from_secs(2), "found, fenced, projected: {:?}", closed.elapsed());
    for room in &rooms {
        let took = processes[1].send_at_last(room, "1").await;
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    // It was only stopped: it finds itself closed, and ends.
    processes[0].fate.is(WELL);
    tokio::time::timeout(Duration::from_secs(5), watches.into_iter().next().unwrap()).await.unwrap().unwrap();
}
