//! Runs that ended are taken out of the registry.

use super::*;
use crate::{members, recover};

async fn join(store: &Arc<Faulty>, n: u32) -> Arc<Registry> {
    let mut incarnation = [7; 16];
    incarnation[..4].copy_from_slice(&n.to_be_bytes());
    let this = Member::new(IncarnationId::new(incarnation), "test", "a", "");
    Registry::join(Arc::clone(store) as _, &this).await.unwrap()
}

async fn rows(store: &Arc<Faulty>) -> usize {
    members::rows(&**store, Consistency::Serial).await.unwrap().len()
}

#[tokio::test]
async fn after_a_thousand_restarts_the_registry_holds_what_runs() {
    let store = Faulty::new();
    let mut ended = Vec::new();
    for n in 0..500 {
        let (killed, next) = (join(&store, 2 * n).await, join(&store, 2 * n + 1).await);
        recover(&next, killed.incarnation(), &[]).await.unwrap();
        assert!(next.leave_after(|| Some(7)).await.unwrap());
        ended.extend([killed.incarnation(), next.incarnation()]);
    }
    let running = join(&store, 5_000).await;
    assert_eq!(rows(&store).await, 1001);
    let (mut rounds, mut most) = (0, ended.clone());
    most.push(running.incarnation());
    while rows(&store).await > 2 {
        running.prune(&most).await.unwrap();
        rounds += 1;
        assert!(rounds < 50, "{} rows are left", rows(&store).await);
    }
    let listed = running.listed().await.unwrap();
    assert_eq!((listed.members.len(), listed.members[0].incarnation), (1, running.incarnation()));
    assert_eq!(listed.pruned, 1000);
    // Their slots went, too; and nobody is known to be open who isn't there.
    assert_eq!(running.logs_of(ended[0], 10).await.unwrap(), None);
    assert_eq!(running.state_of(ended[0]).await.unwrap(), MemberState::Closed);
    assert_eq!(running.prune(&most).await.unwrap(), 0);
}

/// What one that died in between has left is seen to by the next one, and counted once.
#[tokio::test]
async fn whoever_is_stopped_between_two_steps_leaves_the_rest_to_the_next() {
    let store = Faulty::new();
    let [first, second, running] = [join(&store, 1).await, join(&store, 2).await, join(&store, 3).await];
    let ended = [first.incarnation(), second.incarnation()];
    for registry in [&first, &second] {
        assert!(registry.leave().await.unwrap());
    }
    assert_eq!(running.listed().await.unwrap().members[0].told, None);
    // The first step for one of them.
    let (partition, key) = (values_of!["polity"], members::key(ended[0]));
    let row = store.get(&schema::MEMBERS, partition.clone(), key, Consistency::Serial).await.unwrap().unwrap();
    let counter = Row::new(members::counter(), Bytes::new()).guarded(members::GONE, 1);
    let condition = Condition { row: counter.key.clone(), expect: Expect::Absent };
    let changes = vec![Change::Put(row.guarded(members::GONE, 1)), Change::Put(counter)];
    assert_eq!(store.cas(&schema::MEMBERS, partition, condition, changes).await.unwrap(), Cas::Applied);
    let listed = running.listed().await.unwrap();
    assert_eq!((listed.members.len(), listed.pruned), (2, 1));
    assert_eq!(rows(&store).await, 4, "its slots are still to go");
    assert_eq!(running.prune(&ended).await.unwrap(), 1);
    let listed = running.listed().await.unwrap();
    assert_eq!((listed.members.len(), listed.pruned, rows(&store).await), (1, 2, 2));
}
