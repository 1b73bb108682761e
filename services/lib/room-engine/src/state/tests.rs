//! The trie against a sorted map.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Memory(RefCell<HashMap<NodeHash, Arc<Node>>>);

impl Nodes for Memory {
    fn node(&self, hash: &NodeHash) -> Option<Arc<Node>> {
        self.0.borrow().get(hash).cloned()
    }
}

impl Memory {
    fn apply(&self, root: &NodeHash, changes: &[Put]) -> NodeHash {
        let updated = apply(self, root, changes).unwrap();
        for (hash, bytes) in updated.nodes {
            self.0.borrow_mut().insert(hash, Arc::new(Node::decode(&hash, &bytes).unwrap()));
        }
        updated.root
    }
}

fn event(n: u32) -> OwnedEventId {
    OwnedEventId::try_from(format!("${n}:example.org")).unwrap()
}

fn put(key: u32, event_number: Option<u32>) -> Put {
    Put { event_type: "t".into(), state_key: key.to_string().into(), event: event_number.map(event) }
}

fn model(nodes: &Memory, root: &NodeHash) -> BTreeMap<String, OwnedEventId> {
    let entries = entries(nodes, root).unwrap();
    entries.into_iter().map(|entry| (entry.state_key.to_string(), entry.event.to_id().unwrap())).collect()
}

proptest! {
    #[test]
    fn it_is_a_map_whose_shape_is_a_function_of_its_entries(
        groups in prop::collection::vec(prop::collection::vec((0..200_u32, prop::option::of(0..50_u32)), 1..40), 1..12)
    ) {
        let nodes = Memory::default();
        let (mut root, mut expected) = (EMPTY, BTreeMap::new());
        for group in &groups {
            let changes: Vec<Put> = group.iter().map(|(key, event)| put(*key, *event)).collect();
            let (before, old) = (root, expected.clone());
            root = nodes.apply(&root, &changes);
            for (key, number) in group {
                match number {
                    Some(number) => expected.insert(key.to_string(), event(*number)),
                    None => expected.remove(&key.to_string()),
                };
            }
            prop_assert_eq!(&model(&nodes, &root), &expected);
            let changed: BTreeMap<String, Option<OwnedEventId>> =
                diff(&nodes, &before, &root).unwrap().into_iter().map(|d| (d.state_key.to_string(), d.now)).collect();
            for key in old.keys().chain(expected.keys()) {
                let now = expected.get(key).cloned();
                prop_assert_eq!(changed.get(key).cloned(), (old.get(key) != now.as_ref()).then_some(now));
            }
        }
        // Made at once, in the order of the keys: the same root.
        let at_once: Vec<Put> = expected.iter().map(|(key, event)| Put {
            event_type: "t".into(), state_key: key.as_str().into(), event: Some(event.clone()),
        }).collect();
        prop_assert_eq!(nodes.apply(&EMPTY, &at_once), root);
        for key in 0..200 {
            let key = key.to_string();
            prop_assert_eq!(get(&nodes, &root, "t", &key).unwrap(), expected.get(&key).cloned());
        }
    }
}

#[test]
fn a_change_among_100_000_members_writes_a_few_nodes() {
    let nodes = Memory::default();
    let all: Vec<Put> = (0..100_000).map(|n| put(n, Some(n))).collect();
    // In groups, so that `apply` isn't quadratic in one call.
    let root = all.chunks(500).fold(EMPTY, |root, group| nodes.apply(&root, group));
    let updated = apply(&nodes, &root, &[put(7, Some(1))]).unwrap();
    assert!(updated.nodes.len() <= 5, "{}", updated.nodes.len());
    assert!(updated.nodes.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 8192);
    assert_eq!(apply(&nodes, &EMPTY, &[]).unwrap().root, EMPTY);
}

#[test]
fn a_missing_node_is_named() {
    let nodes = Memory::default();
    let root = nodes.apply(&EMPTY, &[put(1, Some(1))]);
    nodes.0.borrow_mut().clear();
    assert_eq!(get(&nodes, &root, "t", "1"), Err(StateError::Missing(root)));
    assert_eq!(apply(&nodes, &root, &[put(2, Some(1))]).unwrap_err(), StateError::Missing(root));
}

#[test]
fn hashed_ids_are_kept_short_and_others_whole() {
    for id in ["$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk", "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg", "$x:y"] {
        let id = OwnedEventId::try_from(id).unwrap();
        assert_eq!(EventRef::from(&*id).to_id().unwrap(), id);
    }
    assert!(matches!(
        EventRef::from(ruma_common::event_id!("$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg")),
        EventRef::Hash(_)
    ));
}
