//! Who is there to be asked: by heartbeats, and by the store while the bus says nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use polity_core::IncarnationId;
use polity_log::MemberState;
use tokio::time::Instant;

use crate::{Member, member::kind, rank::rank};

/// How often a process says that it is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// After so long without a heartbeat a process isn't asked any more.
const GONE: Duration = Duration::from_millis(3_500);
/// Processes whose leaving is remembered; a run comes once, so that forgetting one early costs a call that is refused.
const LEFT: usize = 1024;

/// The processes that may be asked.
pub struct Live {
    this: IncarnationId,
    view: RwLock<View>,
}

struct View {
    /// Who was heard on the bus, and when last.
    heard: HashMap<IncarnationId, (Arc<Member>, Instant)>,
    /// Who said that it leaves.
    left: HashSet<IncarnationId>,
    /// Who is open by the store.
    stored: Vec<Arc<Member>>,
    /// When the own heartbeat came over the bus last: then it carries those of others, too.
    bus: Option<Instant>,
    /// Until then not everybody can have been heard.
    warm: Instant,
}

impl Live {
    /// What `this` process knows of the others: nothing yet.
    #[must_use]
    pub fn new(this: IncarnationId) -> Arc<Self> {
        let view = View {
            heard: HashMap::new(),
            left: HashSet::new(),
            stored: Vec::new(),
            bus: None,
            warm: Instant::now() + GONE,
        };
        Arc::new(Self { this, view: RwLock::new(view) })
    }

    /// Which run of which process this is.
    #[must_use]
    pub fn this(&self) -> IncarnationId {
        self.this
    }

    /// Those that serve what `kind` serves, in no order.
    #[must_use]
    pub fn members(&self, kind: &str) -> Vec<Arc<Member>> {
        let (now, view) = (Instant::now(), self.view.read());
        let fresh = |at: Instant| now.saturating_duration_since(at) < GONE;
        let heard = view.heard.values().filter(|(_, at)| fresh(*at)).map(|(member, _)| member);
        let bus_works = view.bus.is_some_and(fresh) && now >= view.warm;
        let stored = view.stored.iter().filter(|member| !bus_works && !view.left.contains(&member.incarnation));
        let mut known: Vec<Arc<Member>> = heard.chain(stored).filter(|member| serves(member, kind)).cloned().collect();
        known.sort_unstable_by_key(|member| member.incarnation);
        known.dedup_by_key(|member| member.incarnation);
        known
    }

    /// Those that serve what `kind` serves, in the order in which they are asked about `key`.
    #[must_use]
    pub fn ranked(&self, kind: &str, key: &str) -> Vec<Arc<Member>> {
        let mut members = self.members(kind);
        rank(key, &mut members);
        members
    }

    /// A run of a process, if it was heard or stands open in the store.
    #[must_use]
    pub fn find(&self, incarnation: IncarnationId) -> Option<Arc<Member>> {
        let view = self.view.read();
        let stored = || view.stored.iter().find(|member| member.incarnation == incarnation);
        view.heard.get(&incarnation).map(|(member, _)| member).or_else(stored).cloned()
    }

    /// Notes a heartbeat.
    pub(crate) fn heard(&self, member: Member, leaving: bool) {
        let (now, incarnation, mut view) = (Instant::now(), member.incarnation, self.view.write());
        if incarnation == self.this {
            view.bus = Some(now);
        }
        view.heard.retain(|_, (_, at)| now.saturating_duration_since(*at) < GONE);
        if leaving {
            view.heard.remove(&incarnation);
            if view.left.len() >= LEFT {
                view.left.clear();
            }
            view.left.insert(incarnation);
        } else if !view.left.contains(&incarnation) {
            view.heard.insert(incarnation, (Arc::new(member), now));
        }
    }

    /// Notes what the store says: who isn't open there isn't asked.
    pub(crate) fn stored(&self, members: &[Member]) {
        let mut view = self.view.write();
        for closed in members.iter().filter(|member| member.state != MemberState::Open) {
            view.heard.remove(&closed.incarnation);
            view.left.remove(&closed.incarnation);
        }
        let open = members.iter().filter(|member| member.state == MemberState::Open && !member.address.is_empty());
        view.stored = open.cloned().map(Arc::new).collect();
    }
}

fn serves(member: &Member, asked: &str) -> bool {
    &*member.kind == asked || &*member.kind == kind::POLITY
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM_STATE: &str = kind::ROOM_STATE;

    fn member(n: u8, kind: &str) -> Member {
        Member::new(IncarnationId::new([n; 16]), kind, &n.to_string(), "127.0.0.1:1")
    }

    fn numbers(live: &Live) -> Vec<u8> {
        live.members(ROOM_STATE).iter().map(|member| member.incarnation.as_bytes()[0]).collect()
    }

    fn everybody(live: &Live, numbers: &[u8]) {
        for n in numbers {
            live.heard(member(*n, ROOM_STATE), false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_any_more_is_not_asked_and_who_leaves_at_once() {
        let live = Live::new(member(1, ROOM_STATE).incarnation);
        tokio::time::advance(GONE).await;
        everybody(&live, &[1, 2, 3]);
        live.heard(member(4, kind::CLIENT_API), false);
        live.heard(member(5, kind::POLITY), false);
        assert_eq!(numbers(&live), [1, 2, 3, 5]);
        live.heard(member(5, kind::POLITY), true);
        live.heard(member(5, kind::POLITY), false);
        assert_eq!(numbers(&live), [1, 2, 3], "a heartbeat that was overtaken brings nobody back");
        tokio::time::advance(GONE / 2).await;
        everybody(&live, &[1, 2]);
        tokio::time::advance(GONE / 2).await;
        assert_eq!(numbers(&live), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_bus_is_silent_the_store_says_who_is_there() {
        let live = Live::new(member(1, ROOM_STATE).incarnation);
        let mut closed = member(4, ROOM_STATE);
        closed.state = MemberState::Closed;
        live.stored(&[member(1, ROOM_STATE), member(2, ROOM_STATE), member(3, ROOM_STATE), closed]);
        assert_eq!(numbers(&live), [1, 2, 3], "at the start nobody can have been heard yet");
        everybody(&live, &[1, 2]);
        assert_eq!(numbers(&live), [1, 2, 3]);
        live.heard(member(3, ROOM_STATE), true);
        assert_eq!(numbers(&live), [1, 2], "who left isn't asked, whatever the store says still");
        tokio::time::advance(GONE).await;
        assert_eq!(numbers(&live), [1, 2], "no bus: by the store");
        everybody(&live, &[1]);
        assert_eq!(numbers(&live), [1], "the bus works, and nobody else is heard");
    }
}
