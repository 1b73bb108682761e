//! Rows that nobody needs any more.

use super::*;

fn trim(up_to: u64) -> Say {
    Say { text: format!("trim {up_to}"), dedup: None, trim: Some(Seq::new(up_to)) }
}

async fn seqs_after(store: &Arc<Faulty>, after: u64) -> Vec<u64> {
    let rows = read::after(&**store, key(), Seq::new(after), 10_000, Consistency::Quorum).await.unwrap();
    rows.iter().map(|row| row.seq.get()).collect()
}

/// The rows of all buckets, whatever heads say.
async fn stored(store: &Arc<Faulty>) -> usize {
    let mut count = 0;
    for bucket in 0..4 {
        let partition = read::partition(key(), polity_core::Bucket::new(bucket));
        let page = store.scan(&schema::LOG, partition, Bounds::all(), 10_000, Consistency::Serial).await.unwrap();
        count += page.rows.iter().filter(|row| row.guards.is_none()).count();
    }
    count
}

#[tokio::test]
async fn trimmed_rows_go_and_readers_begin_behind_them() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    for n in 1..=6 {
        until_said(&logs, &n.to_string()).await;
    }
    assert_eq!(until_done(&logs, || trim(4)).await, Seq::new(4));
    assert_eq!((seqs_after(&store, 0).await, stored(&store).await), (vec![5, 6], 2));
    assert_eq!(seqs_after(&store, 5).await, [6]);
    assert_eq!(until_done(&logs, || trim(2)).await, Seq::new(2), "they are gone already");
    // More than there is: what comes later stays.
    until_done(&logs, || trim(100)).await;
    assert_eq!((seqs_after(&store, 0).await, stored(&store).await), (vec![], 0));
    assert_eq!(until_said(&logs, "7").await, Seq::new(7));
    assert_eq!(until_said(&logs, "3").await, Seq::new(3), "a transaction outlives its row");
    assert_eq!(seqs_after(&store, 0).await, [7]);
    assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    assert_eq!(until_said(&logs, "8").await, Seq::new(8));
}

#[tokio::test]
async fn a_trim_and_an_append_of_one_group_are_one_write() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    until_said(&logs, "1").await;
    for fault in [Fault::LandsUnheard, Fault::NeverLands, Fault::LandsLater] {
        store.fault(fault);
        let last = seqs_after(&store, 0).await.pop().unwrap();
        let said = (last + 1).to_string();
        let (trimmed, next) = tokio::join!(until_done(&logs, || trim(last)), until_said(&logs, &said));
        assert_eq!((trimmed.get(), next.get()), (last, last + 1), "{fault:?}");
        assert_eq!((seqs_after(&store, 0).await, stored(&store).await), (vec![last + 1], 1), "{fault:?}");
    }
}

#[tokio::test]
async fn buckets_that_are_full_are_cleared_whole() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    let until = async |last: u64| {
        let from = read::projected_seq(&*store, key()).await.unwrap().get() + 1;
        let said = (from..=last).map(|n| {
            let logs = logs.clone();
            async move { until_said(&logs, &n.to_string()).await }
        });
        futures_util::future::join_all(said).await;
    };
    for last in [400, 800, 1200, 1600, 2047] {
        until(last).await;
        assert!(logs.drain(std::time::Duration::from_secs(5)).await);
    }
    until_done(&logs, || trim(10)).await;
    assert_eq!(seqs_after(&store, 11).await.len(), 2047 - 11);
    until_done(&logs, || trim(1500)).await;
    assert_eq!(seqs_after(&store, 3).await.first(), Some(&1501), "over a bucket that is gone");
    // The last bucket is full: the head goes on in the next one.
    until_done(&logs, || trim(2047)).await;
    assert_eq!((seqs_after(&store, 3).await, stored(&store).await), (vec![], 0));
    assert_eq!(until_said(&logs, "2048").await, Seq::new(2048));
    assert_eq!(seqs_after(&store, 3).await, [2048]);
}

#[tokio::test]
async fn readers_that_ask_for_less_than_is_left_begin_behind_what_went() {
    let store = Faulty::new();
    let (_, logs, _) = process(&store, 1, "a").await;
    for n in 1..=12 {
        until_said(&logs, &n.to_string()).await;
    }
    until_done(&logs, || trim(4)).await;
    for consistency in [Consistency::Quorum, Consistency::Serial] {
        let seqs = async |after: u64, limit: usize| {
            let rows = read::after(&*store, key(), Seq::new(after), limit, consistency).await.unwrap();
            rows.iter().map(|row| row.seq.get()).collect::<Vec<_>>()
        };
        // One row fewer than all, and hardly any of them.
        for limit in [7, 2] {
            for after in [0, 3, 4] {
                assert_eq!(seqs(after, limit).await, (5..5 + limit as u64).collect::<Vec<_>>(), "{after}, {limit}");
            }
        }
    }
}

#[tokio::test]
async fn another_owner_hears_of_a_trim_before_it_writes() {
    let store = Faulty::new();
    let (_, one, _) = process(&store, 1, "a").await;
    let (_, two, _) = process(&store, 2, "b").await;
    until_said(&one, "1").await;
    until_said(&two, "2").await;
    until_said(&one, "3").await;
    until_done(&two, || trim(2)).await;
    until_said(&one, "4").await;
    let found = read::head(&*store, key(), Seq::ZERO, Consistency::Serial).await.unwrap().unwrap();
    assert_eq!((found.head.first, seqs_after(&store, 0).await), (Seq::new(3), vec![3, 4]));
}
