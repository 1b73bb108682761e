//! The end of a room, after its log was sealed: what goes and what stays. All of it may be done again from the beginning, by two processes
//! at once, too.
//!
//! Everybody who was in the room is told first: memberships and the directory say, at the position of the seal, that it is over (as all
//! projections, they are never deleted, and whatever a process that was stopped writes late is older). Its aliases are given up, its name
//! goes to its next life. Then goes what belongs to the log: receipts, redactions, nodes of states, and by the log itself
//! transactions and rows.
//!
//! What stays can't be reached from anything, and says nothing of what was in the room:
//! - the heads of its buckets, sealed and empty, and `projected`, which leads to them;
//! - where its events stood (`events`): their ids, and the log's, which has no such rows;
//! - which of its aliases there were once (`room_aliases`), which point nowhere or elsewhere;
//! - what users keep of their own: receipts, account data, that they forgot it. The next life's are later;
//! - what a process writes late that was stopped before the seal, or whose append was lost: nodes, transactions, receipts of this log.

use std::{collections::HashSet, sync::Arc};

use polity_bus::{Subject, SubjectKind, Wake};
use polity_core::{
    LogId, LogKey, Position, Seq,
    mutation::{Mutation, planted},
};
use polity_log::{LogError, LogRow};
use polity_room_engine::{
    record::{RoomHead, RoomRow},
    state::{EMPTY, Entry, Node, NodeHash},
};
use polity_store::{
    Consistency, Durability, Marks, Write,
    rooms::{self, AliasUse, Membership},
    schema, values_of,
};
use ruma_common::{OwnedUserId, RoomAliasId};

use crate::deps::Deps;

/// Memberships written at once.
const MEMBERS: usize = 256;
/// Nodes that are remembered to be gone: forgotten, they are looked for once more.
const GONE: usize = 100_000;
/// How often some members are told before it counts as failed.
const TELLS: usize = 4;
/// How often an alias is given up that somebody changes meanwhile.
const TRIES: usize = 16;

/// See the module.
pub(crate) struct Purge {
    deps: Arc<Deps>,
    key: LogKey,
    room: RoomHead,
    gone: HashSet<NodeHash>,
}

impl Purge {
    pub(crate) fn new(deps: Arc<Deps>, key: LogKey, room: RoomHead) -> Self {
        Self { deps, key, room, gone: HashSet::new() }
    }

    /// Tells everything beside the log that the room is over, as of the row `at`, which nobody writes any more.
    pub(crate) async fn tell_everybody(&self, at: Seq) -> Result<(), LogError> {
        let (store, tenant, position) = (&*self.deps.store, self.key.tenant, Position::new(self.key.life, at));
        store
            .put(vec![rooms::put_listing(tenant, &self.room.room_id, false, position)], Durability::Rebuildable)
            .await?;
        self.tell_members(position).await?;
        let (names, name) = (&self.deps.names, self.room.room_id.as_str());
        let named = names.look_up(tenant, name, Consistency::Serial).await?;
        // Once it has another life the aliases may be that one's.
        if named.is_some_and(|named| named.key == self.key) {
            for alias in rooms::aliases_of(store, tenant, &self.room.room_id).await? {
                self.give_up(&alias).await?;
            }
            // Whoever was first; after the last life there is none.
            names.next_life(name, self.key).await?;
        }
        names.sealed(self.key);
        if !planted(Mutation::PurgedReceiptsStay) {
            store.drop_partition(&schema::RECEIPTS, values_of![tenant, self.key.log]).await?;
        }
        Ok(())
    }

    /// Every user who has a membership there has left, and is woken.
    async fn tell_members(&self, position: Position) -> Result<(), LogError> {
        let mut users = Vec::new();
        let mut stack = vec![self.room.roots.members];
        while let Some(hash) = stack.pop() {
            match self.node(&hash).await? {
                Some(Node::Leaf(entries)) => {
                    let of = |entry: Entry| OwnedUserId::try_from(String::from(entry.state_key)).ok();
                    users.extend(entries.into_iter().filter_map(of));
                }
                Some(Node::Branch(children)) => stack.extend(children.iter().map(|child| child.hash)),
                // Who has dropped it has told all of them.
                None => {}
            }
            if users.len() >= MEMBERS {
                self.tell(std::mem::take(&mut users), position).await?;
            }
        }
        self.tell(users, position).await
    }

    async fn tell(&self, users: Vec<OwnedUserId>, position: Position) -> Result<(), LogError> {
        let (tenant, since) = (self.key.tenant, position.seq);
        let left = Membership { membership: "leave".to_owned(), position, since };
        let writes: Result<Vec<Write>, _> =
            users.iter().map(|user_id| rooms::put_membership(tenant, user_id, &self.room.room_id, &left)).collect();
        let (writes, store) = (writes?, &self.deps.store);
        // One that fails is made again: to begin anew would be to wake all those again who were told before.
        for tries_left in (0..TELLS).rev() {
            match store.put(writes.clone(), Durability::Rebuildable).await {
                Err(_) if tries_left > 0 => {}
                Err(error) => return Err(error.into()),
                Ok(()) => break,
            }
        }
        for user_id in &users {
            let user = LogId::derived(tenant, "user", user_id.as_str());
            let mark = Marks::place(&schema::MEMBERSHIPS, tenant, user_id.as_str());
            self.deps.bus.publish(Subject::new(SubjectKind::User, tenant, user), Wake::Partition(mark).encode());
        }
        Ok(())
    }

    async fn give_up(&self, alias: &RoomAliasId) -> Result<(), LogError> {
        let (store, tenant) = (&*self.deps.store, self.key.tenant);
        for _ in 0..TRIES {
            let found = rooms::alias(store, tenant, alias).await?;
            let Some(found) = found.filter(|found| found.room_id == self.room.room_id) else { return Ok(()) };
            if found.usage == AliasUse::Free || rooms::release_alias(store, tenant, alias, &found).await? {
                return Ok(());
            }
        }
        // It points nowhere all the same: whoever asks finds that there is no such room.
        tracing::warn!(log = %self.key, "an alias of a purged room isn't free yet");
        Ok(())
    }

    /// Drops what only these rows name; without rows, what the head does.
    pub(crate) async fn forget(&mut self, rows: &[LogRow]) -> Result<(), LogError> {
        let Some(first) = rows.first() else {
            let roots = self.room.roots;
            self.drop_state(roots.entries).await?;
            return self.drop_state(roots.members).await;
        };
        if !planted(Mutation::PurgedRedactionsStay) {
            rooms::drop_redactions(&*self.deps.store, self.key, first.seq.bucket()).await?;
        }
        for row in rows {
            match RoomRow::decode(&row.body) {
                Ok(_) if planted(Mutation::PurgedStateStays) => {}
                Ok(row) => {
                    self.drop_state(row.meta.roots.entries).await?;
                    self.drop_state(row.meta.roots.members).await?;
                }
                Err(error) => {
                    tracing::warn!(%error, log = %self.key, seq = %row.seq, "a damaged row goes, its state stays");
                }
            }
        }
        Ok(())
    }

    /// Drops a state, children before their parents: below a node that isn't there is none left.
    async fn drop_state(&mut self, root: NodeHash) -> Result<(), LogError> {
        let mut stack = vec![(root, false)];
        while let Some((hash, is_bare)) = stack.pop() {
            if is_bare {
                rooms::drop_state_node(&*self.deps.store, self.key, self.room.generation, &hash).await?;
                self.note_gone(hash);
            } else if !self.gone.contains(&hash) {
                match self.node(&hash).await? {
                    Some(node) => {
                        stack.push((hash, true));
                        if let Node::Branch(children) = node {
                            stack.extend(children.iter().map(|child| (child.hash, false)));
                        }
                    }
                    None => self.note_gone(hash),
                }
            }
        }
        Ok(())
    }

    fn note_gone(&mut self, hash: NodeHash) {
        if self.gone.len() >= GONE {
            self.gone.clear();
        }
        self.gone.insert(hash);
    }

    /// A node as it stands in the store, whatever is in memory.
    async fn node(&self, hash: &NodeHash) -> Result<Option<Node>, LogError> {
        if *hash == EMPTY {
            return Ok(None);
        }
        let bytes = rooms::state_node_if_there(&*self.deps.store, self.key, self.room.generation, hash).await?;
        Ok(bytes.map(|bytes| {
            // It goes like any other; what stood below it can't be found any more.
            Node::decode(hash, &bytes).unwrap_or_else(|error| {
                tracing::error!(%error, log = %self.key, "a damaged state node of a room that is purged");
                Node::Leaf(Vec::new())
            })
        }))
    }
}
