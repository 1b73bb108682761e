//! Logs that any process writes: each goes on from where another one stopped.

use super::*;

async fn beside(store: &Arc<Faulty>, incarnation: u8) -> (Arc<Registry>, Logs<Counter>) {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let this = Member::new(IncarnationId::new([incarnation; 16]), "test", &incarnation.to_string(), "");
    let registry = Registry::join(Arc::clone(&store), &this).await.unwrap();
    let (moved, clock) = (Arc::new(Deaf), Arc::new(ManualClock::new(0)));
    let env = Env { store, registry: Arc::clone(&registry), moved, clock, shared: true };
    (registry, Logs::new(env, "counter", 100, Counter::default))
}

#[tokio::test]
async fn by_turns_over_a_buckets_end_without_a_fence() {
    let store = Faulty::new();
    let (one, two) = (beside(&store, 1).await.1, beside(&store, 2).await.1);
    for n in 0..1_100 {
        let logs = if n % 2 == 0 { &one } else { &two };
        // Without a retry of the caller's.
        logs.submit(key(), say(&n.to_string())).await.unwrap().unwrap();
    }
    assert_eq!(texts(&store).await, (0..1_100).map(|n| n.to_string()).collect::<Vec<_>>());
    let head = read::newest(&*store, key(), Seq::ZERO, Consistency::Serial).await.unwrap().unwrap().head;
    assert_eq!(head.epoch, polity_core::Epoch::FIRST);
}

#[tokio::test]
async fn who_lost_an_append_and_was_closed_meanwhile_writes_nothing_more() {
    let store = Faulty::new();
    let (dead, stopped) = beside(&store, 1).await;
    let (_, other) = beside(&store, 2).await;
    let (recoverer, finishing) = beside(&store, 3).await;
    until_said(&stopped, "first").await;
    until_said(&other, "second").await;
    assert_eq!(recover(&recoverer, dead.incarnation(), &[Arc::new(finishing)]).await.unwrap(), 1);
    // It still has the log as it was before "second": the append is lost, and the epoch isn't the one that it had entered the log for.
    assert!(matches!(stopped.submit(key(), say("third")).await, Ok(Err(LogError::Closed))));
    assert_eq!(texts(&store).await, ["first", "second"]);
    until_said(&other, "fourth").await;
}

#[tokio::test]
async fn what_looks_like_an_append_of_unknown_outcome_is_another_ones_and_counts_for_nobody_else() {
    let store = Faulty::new();
    let (one, two) = (beside(&store, 1).await.1, beside(&store, 2).await.1);
    // Without a transaction, by which a repeat would be found.
    let note = |text: &str| Say { text: text.to_owned(), dedup: None, trim: None };
    until_said(&two, "first").await;
    for text in ["same", "other"] {
        one.submit(key(), note(text)).await.unwrap().unwrap();
    }
    // It still has the log as it was before "same", by which the condition of its own append doesn't hold; and isn't told so.
    store.fault(Fault::NeverLands);
    let seq = two.submit(key(), note("same")).await.unwrap().unwrap();
    assert_eq!(texts(&store).await, ["first", "same", "other", "same"]);
    assert_eq!(seq, Seq::new(4));
}
