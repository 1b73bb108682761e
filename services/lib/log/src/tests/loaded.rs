//! Which logs stay loaded.

use super::*;

fn log(number: u8) -> LogKey {
    LogKey { log: LogId::new([number; 16]), ..key() }
}

async fn until_loaded(logs: &Logs<Counter>, count: usize) {
    for _ in 0..1000 {
        // How much a log holds is noted after its answer.
        logs.sweep();
        if logs.loaded() == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("{} logs are loaded, not {count}", logs.loaded());
}

#[tokio::test]
async fn those_that_hold_much_are_fewer() {
    let store = Faulty::new();
    // It keeps a hundred logs of 8 KiB.
    let (_, logs, _) = process(&store, 1, "a").await;
    for number in 0..90 {
        logs.submit(log(number), say("small")).await.unwrap().unwrap();
    }
    until_loaded(&logs, 90).await;
    // One takes as much as fifty.
    logs.submit(log(200), say(&format!("holds {}", 50 * 8192))).await.unwrap().unwrap();
    until_loaded(&logs, 50).await;
    // It holds so much no more.
    logs.submit(log(200), say("small")).await.unwrap().unwrap();
    for number in 0..90 {
        logs.submit(log(number), say("again")).await.unwrap().unwrap();
    }
    until_loaded(&logs, 91).await;
}
