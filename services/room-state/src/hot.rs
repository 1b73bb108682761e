//! A room in memory: its head, and the state events that deciding needs, each read once.

use std::{collections::HashMap, sync::Arc};

use polity_core::{LogKey, Seq, TenantId};
use polity_log::{LogError, read};
use polity_room_engine::{
    pdu::Pdu,
    record::{RoomHead, RoomRow, Roots, StateDelta},
    redact,
    state::{self, Part, Put},
};
use polity_store::rooms::{self, EventPlace};
use ruma_common::{EventId, OwnedEventId, UserId, room_version_rules::RoomVersionRules};

use crate::{
    deps::Deps,
    error::RoomError,
    nodes::{NodeCache, Pinned},
    profiles::{self, Profile, Profiles},
};

/// Bytes of state events that are kept in memory, those that a command needs not counted.
const KNOWN: usize = 1 << 20;
/// What each takes beside its JSON, about.
const ENTRY: usize = 512;

/// A state event and where its membership began.
#[derive(Debug, Clone)]
pub(crate) struct StateEvent {
    pub(crate) pdu: Pdu,
    /// For a member event: where this stretch began.
    pub(crate) since: Seq,
    /// Whether it was redacted, and `pdu` is what that left.
    pub(crate) redacted: bool,
}

/// The target of a redaction.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) pdu: Pdu,
    pub(crate) seq: Seq,
    pub(crate) notifies: bool,
    /// An earlier redaction took effect: another one changes no count.
    pub(crate) redacted: bool,
}

/// What stands in the state under keys: `None` means that nothing does.
#[derive(Default)]
struct Known {
    events: HashMap<(String, String), Option<StateEvent>>,
    /// What they take, about.
    bytes: usize,
}

/// A loaded room.
pub(crate) struct Hot {
    pub(crate) head: RoomHead,
    pub(crate) rules: RoomVersionRules,
    known: Known,
    pub(crate) targets: HashMap<OwnedEventId, Option<Target>>,
    /// What the group's commands show, as it is.
    profiles: Profiles,
    pinned: Pinned,
    /// The group being decided: its first row and the state before it.
    group: Option<(Seq, Roots)>,
    puts: (Vec<Put>, Vec<Put>),
}

impl Known {
    fn get(&self, name: &(String, String)) -> Option<&StateEvent> {
        self.events.get(name).and_then(Option::as_ref)
    }

    /// Notes what stands there; what stood there before.
    fn insert(&mut self, name: (String, String), event: Option<StateEvent>) -> Option<StateEvent> {
        let size = |event: &Option<StateEvent>| ENTRY + event.as_ref().map_or(0, |event| event.pdu.json().len());
        self.bytes += size(&event);
        let before = self.events.insert(name, event);
        self.bytes -= before.as_ref().map_or(0, size);
        before.flatten()
    }
}

impl Hot {
    pub(crate) fn new(head: RoomHead, rules: RoomVersionRules) -> Self {
        Self {
            head,
            rules,
            known: Known::default(),
            targets: HashMap::new(),
            profiles: Profiles::new(),
            pinned: Pinned::default(),
            group: None,
            puts: (Vec::new(), Vec::new()),
        }
    }

    /// The current state event of a key. It must have been made known.
    pub(crate) fn state(&self, event_type: &str, state_key: &str) -> Option<&StateEvent> {
        self.known.get(&(event_type.to_owned(), state_key.to_owned()))
    }

    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        self.known.bytes
    }

    /// Reads the current state event of a key, unless it is known.
    pub(crate) async fn know(
        &mut self,
        deps: &Deps,
        key: LogKey,
        event_type: &str,
        state_key: &str,
    ) -> Result<(), LogError> {
        let name = (event_type.to_owned(), state_key.to_owned());
        let part = Part::of(event_type);
        let (root, type_in_part) = match part {
            Part::Entries => (self.head.roots.entries, event_type),
            Part::Members => (self.head.roots.members, ""),
        };
        // Asked even if the event is known: the path must be at hand for the change.
        let question = |nodes: &dyn state::Nodes| state::get(nodes, &root, type_in_part, state_key);
        let id = deps.nodes.ask(&*deps.store, key, self.head.generation, &mut self.pinned, question).await?;
        if !self.known.events.contains_key(&name) {
            let event = match id {
                // What the state names must be there: going on without it would decide by another state.
                Some(id) => {
                    let place = rooms::place_of_event(&*deps.store, key.tenant, &id).await?;
                    let missing = || LogError::Corrupt(format!("the state's event {id} is not to be found"));
                    let place = place.ok_or_else(missing)?;
                    let (row, pdu) = self.load_event(deps, &id, place).await?;
                    let redacted = self.is_redacted(deps, place).await?;
                    let pdu = if redacted { self.redacted(&pdu)? } else { pdu };
                    let since = row.meta.membership.map_or(Seq::ZERO, |change| change.since);
                    Some(StateEvent { pdu, since, redacted })
                }
                None => None,
            };
            self.known.insert(name, event);
        }
        Ok(())
    }

    /// Reads the target of a redaction.
    pub(crate) async fn know_target(&mut self, deps: &Deps, key: LogKey, id: &EventId) -> Result<(), LogError> {
        if !self.targets.contains_key(id) {
            let place = rooms::place_of_event(&*deps.store, key.tenant, id).await?;
            let here = place.filter(|place| place.key.log == key.log);
            let target = match here {
                Some(place) => {
                    let (row, pdu) = self.load_event(deps, id, place).await?;
                    let (notifies, redacted) = (row.meta.notifies, self.is_redacted(deps, place).await?);
                    Some(Target { pdu, seq: place.seq, notifies, redacted })
                }
                None => None,
            };
            self.targets.insert(id.to_owned(), target);
        }
        Ok(())
    }

    /// Reads the profiles of these.
    pub(crate) async fn know_profiles<'a>(
        &mut self,
        deps: &Deps,
        tenant: TenantId,
        users: impl Iterator<Item = &'a UserId>,
    ) {
        let users = users.map(ToOwned::to_owned).collect();
        self.profiles = profiles::read_soon(&*deps.store, tenant, users).await;
    }

    /// A user's profile as it was when this group was prepared.
    pub(crate) fn profile(&self, user_id: &UserId) -> Result<&Profile, RoomError> {
        let unknown = || RoomError::internal("a command without the profile that it shows");
        self.profiles.get(user_id).ok_or_else(unknown)?.as_ref().map_err(|error| error.clone().into())
    }

    /// The state's key under which the target of a redaction stands or stood.
    pub(crate) fn key_of_target(&self, id: &EventId) -> Option<(String, String)> {
        let target = self.targets.get(id)?.as_ref()?;
        Some((target.pdu.event_type().to_string(), target.pdu.state_key()?.to_owned()))
    }

    /// Takes from the current state what a redaction of `target` takes, if it stands there; what is left then.
    pub(crate) fn redact_state(&mut self, target: &EventId) -> Result<Option<Pdu>, LogError> {
        let Some(name) = self.key_of_target(target) else { return Ok(None) };
        let current = self.known.get(&name).filter(|event| *event.pdu.event_id() == *target);
        let Some(StateEvent { pdu, since, .. }) = current else { return Ok(None) };
        let (pdu, since) = (self.redacted(pdu)?, *since);
        self.known.insert(name, Some(StateEvent { pdu: pdu.clone(), since, redacted: true }));
        Ok(Some(pdu))
    }

    fn redacted(&self, pdu: &Pdu) -> Result<Pdu, LogError> {
        redact::redact(pdu, &self.rules).map_err(|error| LogError::Corrupt(error.to_string()))
    }

    async fn is_redacted(&self, deps: &Deps, place: EventPlace) -> Result<bool, LogError> {
        if self.head.redactions == 0 {
            return Ok(false);
        }
        let redactions = rooms::redactions_between(&*deps.store, place.key, place.seq, place.seq).await?;
        Ok(!redactions.is_empty())
    }

    async fn load_event(&self, deps: &Deps, id: &EventId, place: EventPlace) -> Result<(RoomRow, Pdu), LogError> {
        let corrupt = |error: String| LogError::Corrupt(error);
        let row = read::back(&*deps.store, place.key, place.seq, 1).await?.into_iter().next();
        let row = row.filter(|row| row.event_id.as_deref() == Some(id.as_str()));
        let row = row.ok_or_else(|| corrupt(format!("{id} is not on the row that is said to have it")))?;
        let row = RoomRow::decode(&row.body).map_err(|error| corrupt(error.to_string()))?;
        let pdu = Pdu::from_stored(id.to_owned(), self.head.room_id.clone(), row.pdu.clone(), &self.rules);
        Ok((row, pdu.map_err(|error| corrupt(error.to_string()))?))
    }

    /// Begins a group: forgets what only the last one needed, and all events if there are too many. Nothing may be decided and not sealed.
    pub(crate) fn begin(&mut self) {
        self.let_go();
        if self.known.bytes > KNOWN {
            self.known = Known::default();
        }
    }

    /// Gives back what only one group needs: rooms that wait are many.
    fn let_go(&mut self) {
        self.pinned = Pinned::default();
        self.targets = HashMap::new();
        self.profiles = Profiles::new();
    }

    /// The group's first row and the state before it, given the number of the next row.
    pub(crate) fn group(&mut self, next: Seq) -> (Seq, Roots) {
        *self.group.get_or_insert((next, self.head.roots))
    }

    /// Notes a state event as current; what it replaced.
    pub(crate) fn set_state(&mut self, event: &Pdu, since: Seq) -> StateDelta {
        let (event_type, state_key) =
            (event.event_type().to_string(), event.state_key().unwrap_or_default().to_owned());
        let name = (event_type.clone(), state_key.clone());
        let before = self.known.insert(name, Some(StateEvent { pdu: event.clone(), since, redacted: false }));
        let put = |event_type: &str| Put {
            event_type: event_type.into(),
            state_key: state_key.as_str().into(),
            event: Some(event.event_id().clone()),
        };
        match Part::of(&event_type) {
            Part::Entries => self.puts.0.push(put(&event_type)),
            Part::Members => self.puts.1.push(put("")),
        }
        let after = Some(event.event_id().clone());
        StateDelta { event_type, state_key, before: before.map(|before| before.pdu.event_id().clone()), after }
    }

    /// Ends the group: the new roots, and the nodes that they need.
    pub(crate) fn seal(
        &mut self,
        tenant: polity_core::TenantId,
        nodes: &NodeCache,
    ) -> Result<Vec<(state::NodeHash, bytes::Bytes)>, LogError> {
        let (entries, members) = std::mem::take(&mut self.puts);
        let mut new = Vec::new();
        for (root, puts) in [(&mut self.head.roots.entries, entries), (&mut self.head.roots.members, members)] {
            if puts.is_empty() {
                continue;
            }
            let updated =
                state::apply(&self.pinned, root, &puts).map_err(|error| LogError::Corrupt(error.to_string()))?;
            *root = updated.root;
            for (hash, bytes) in &updated.nodes {
                let node = state::Node::decode(hash, bytes).map_err(|error| LogError::Corrupt(error.to_string()))?;
                nodes.insert(tenant, *hash, Arc::new(node));
            }
            new.extend(updated.nodes);
        }
        self.group = None;
        self.let_go();
        Ok(new)
    }
}
