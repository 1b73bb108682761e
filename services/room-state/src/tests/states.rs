//! What a room's rows, state nodes and projections say of its state, beside a plain replay of the rows.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use polity_log::LogRow;
use polity_room_engine::{
    record::{RoomHead, Roots, RowMeta},
    state::{self, Node, NodeHash, Nodes, StateError},
};

use super::{
    model::{USERS, said},
    plain::Plain,
    *,
};

/// Event ids by type and key.
type Ids = BTreeMap<(String, String), String>;

/// The nodes that were read so far.
#[derive(Default)]
struct Read(RefCell<HashMap<NodeHash, Arc<Node>>>);

impl Nodes for Read {
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>> {
        self.0.borrow().get(hash).cloned()
    }
}

impl Read {
    /// The state under some roots.
    async fn state(&self, world: &World, key: LogKey, roots: &Roots) -> Ids {
        let mut ids = Ids::new();
        for (root, of_type) in [(&roots.entries, None), (&roots.members, Some("m.room.member"))] {
            for entry in self.entries(world, key, root).await {
                let event_type = of_type.unwrap_or(&entry.event_type).to_owned();
                ids.insert((event_type, entry.state_key.to_string()), entry.event.to_id().unwrap().to_string());
            }
        }
        ids
    }

    async fn entries(&self, world: &World, key: LogKey, root: &NodeHash) -> Vec<state::Entry> {
        loop {
            match state::entries(self, root) {
                Ok(entries) => return entries,
                Err(StateError::Missing(hash)) => {
                    let bytes = rooms::state_node(&*world.store, key, 0, &hash).await.unwrap();
                    self.0.borrow_mut().insert(hash, Arc::new(Node::decode(&hash, &bytes).unwrap()));
                }
                Err(damaged) => panic!("{damaged}"),
            }
        }
    }
}

/// The state at every row, by the nodes before its group and the changes since, is what a replay of all rows gives; so is the head's;
/// memberships stand with the row that made them and the one that began them.
pub(super) async fn check_states(world: &World, room: &str, plain: &Plain) {
    let key = world.names.find(TenantId::new(TENANT), room).await.unwrap().unwrap();
    let (rows, read) = (world.log(room).await, Read::default());
    let metas: Vec<RowMeta> = rows.iter().map(|row| RoomRow::decode(&row.body).unwrap().meta).collect();
    let mut replayed = Ids::new();
    for (at, row) in rows.iter().enumerate() {
        let event = said(row);
        if let Some(state_key) = event.state_key {
            replayed.insert((event.event_type, state_key), row.event_id.as_deref().unwrap().to_owned());
        }
        let mut by_nodes = read.state(world, key, &metas[at].roots).await;
        let first = usize::try_from(metas[at].group_first.get()).unwrap() - 1;
        for delta in metas[first..=at].iter().flat_map(|meta| &meta.deltas) {
            let name = (delta.event_type.clone(), delta.state_key.clone());
            let before = by_nodes.insert(name, delta.after.as_ref().unwrap().to_string());
            assert_eq!(before, delta.before.as_ref().map(ToString::to_string), "what stood there before");
        }
        assert_eq!(by_nodes, replayed, "the state at row {}", row.seq);
    }
    let found = read::head(&*world.store, key, Seq::ZERO, Consistency::Serial).await.unwrap().unwrap();
    let head = RoomHead::decode(&found.head.state).unwrap();
    assert_eq!(read.state(world, key, &head.roots).await, replayed, "the state at the head");
    let ids: Ids = plain.state.iter().map(|(name, entry)| (name.clone(), entry.id.clone())).collect();
    assert_eq!(ids, replayed, "the model's state");
    let count = |membership: &str| USERS.iter().filter(|user| plain.membership(user) == membership).count() as u64;
    assert_eq!((head.summary.joined, head.summary.invited), (count("join"), count("invite")));
    for user in USERS {
        assert_eq!(world.membership(user, room).await, stretch(&rows, user), "{user}");
    }
}

/// What a user is, and on which row that began. Who is out stays out from the same row on, by whatever he is kept out.
fn stretch(rows: &[LogRow], user: &str) -> Option<(String, u64)> {
    let mut now: Option<(String, u64)> = None;
    for row in rows {
        let event = said(row);
        if event.event_type == "m.room.member" && event.state_key.as_deref() == Some(user) {
            let membership = event.content["membership"].as_str().unwrap().to_owned();
            let kind = |membership: &str| if membership == "ban" { "leave" } else { membership }.to_owned();
            let began = now.filter(|(was, _)| kind(was) == kind(&membership)).map_or(row.seq.get(), |(_, began)| began);
            now = Some((membership, began));
        }
    }
    now
}
