//! What must hold of the store once nothing goes wrong any more and everybody has ended.

use std::{sync::Arc, time::Duration};

use polity_log::{Member, MemberState, Registry};
use tokio::time::Instant;

use super::{NEIGHBOUR, TENANT, cluster::Cluster, logs};
use crate::load::{Journal, Load, rows};

/// So long is waited for what the dead left: they are closed only when they have been watched for a while, and one after the other.
const SEEN_TO: Duration = Duration::from_secs(240);
/// Between two looks.
const LOOKS: Duration = Duration::from_secs(1);

/// Nobody who is dead has anything left to finish, and every row of these rooms stands where it must be found.
pub(super) async fn check(cluster: &Arc<Cluster>, journal: &Journal, load: &Load) {
    let began = Instant::now();
    let Some((_, registry)) = cluster.running().pop() else { journal.fail("nobody runs", &[]) };
    let entered = loop {
        let entered = registry.members().await.unwrap_or_default();
        let left = left_by_the_dead(cluster, &registry).await;
        if left.is_empty() {
            break entered;
        }
        let waited = began.elapsed();
        journal.check(waited < SEEN_TO, format_args!("nobody finished in {waited:?} what is left of {left:?}"), &[]);
        tokio::time::sleep(LOOKS).await;
    };
    let wrongs = cluster.weather.wrongs();
    journal.check(wrongs.is_empty(), wrongs.join("\n"), &[]);
    let rooms = load.rooms().iter().map(|room| (TENANT, &**room));
    for (tenant, room) in rooms.chain(load.room_elsewhere().map(|room| (NEIGHBOUR, room))) {
        rows::check_room(&*cluster.store, &cluster.names(), (tenant, room), journal).await;
    }
    let kept = cluster.end().await;
    journal.check(kept.is_empty(), format_args!("who has left let not go of what it had: {kept:?}"), &[]);
    let mut left = left_by_the_dead(cluster, &registry).await;
    // A process that died before it was entered, and whose entry came after the last look, has opened nothing: the next one that starts
    // closes it.
    left.retain(|member| entered.iter().any(|other| other.incarnation == member.incarnation));
    journal.check(left.is_empty(), format_args!("all have left in order, and something is left of {left:?}"), &[]);
    // What comes now must find that it can't be any more.
    cluster.weather.all_have_come().await;
    logs::check(&cluster.store, journal).await;
}

/// The dead of whom nobody has seen yet that nothing is left.
async fn left_by_the_dead(cluster: &Cluster, registry: &Registry) -> Vec<Member> {
    let running = cluster.running();
    let mut members = registry.members().await.unwrap_or_default();
    members.retain(|member| {
        member.state != MemberState::Drained && !running.iter().any(|(alive, _)| *alive == member.incarnation)
    });
    members
}
