//! A caller that hangs up cuts nothing off.

use std::time::Duration;

use futures_util::FutureExt;

use super::*;

/// Looks until the room has more rows than `before`.
async fn grown(world: &World, room: &str, before: usize) -> Vec<RoomRow> {
    for _ in 0..500 {
        let rows = world.rows(room).await;
        if rows.len() > before {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the write was cut off");
}

#[tokio::test]
async fn a_write_outlives_its_caller() {
    let mut world = world().await;
    let room = world.create("12", Preset::PublicChat).await;
    let before = world.rows(&room).await.len();
    let mut caller = world.clone();
    let call = caller.send(ALICE, &room, "cut off");
    // Asked once, so that it is on its way, and dropped.
    assert!(call.now_or_never().is_none(), "answered before it could be cut off");
    let rows = grown(&world, &room, before).await;
    assert_eq!(rows.len(), before + 1);
    // The client asks again with the same transaction: the same event.
    let (_, seq) = world.send(ALICE, &room, "cut off").await.unwrap();
    assert_eq!((seq, world.rows(&room).await.len()), (before as u64 + 1, before + 1));
}
