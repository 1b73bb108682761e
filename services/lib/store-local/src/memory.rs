//! The engine in memory: for tests and simulation.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use polity_store::StoreError;

use crate::engine::{Engine, KeyWrite, Pair};

/// A sorted map.
#[derive(Default)]
pub(crate) struct MemoryEngine {
    pairs: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs.read().get(key).cloned())
    }

    fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        each: &mut dyn FnMut(Pair) -> bool,
    ) -> Result<(), StoreError> {
        if begin >= end {
            return Ok(());
        }
        let pairs = self.pairs.read();
        let mut range = pairs.range::<[u8], _>((std::ops::Bound::Included(begin), std::ops::Bound::Excluded(end)));
        let mut next = || if reverse { range.next_back() } else { range.next() };
        while let Some((key, value)) = next() {
            if !each((key.clone(), value.clone())) {
                break;
            }
        }
        Ok(())
    }

    fn copy(&self) -> Option<Arc<dyn Engine>> {
        let pairs = self.pairs.read().clone();
        Some(Arc::new(Self { pairs: RwLock::new(pairs) }))
    }

    fn write(&self, writes: Vec<KeyWrite>, _sync: bool) -> Result<(), StoreError> {
        let mut pairs = self.pairs.write();
        for (key, value) in writes {
            match value {
                Some(value) => pairs.insert(key.into(), value),
                None => pairs.remove(&*key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_was_there_and_is_apart_from_then_on() {
        let key = |name: &'static str| (name.as_bytes().to_vec(), Some(Bytes::from_static(b"1")));
        let one = MemoryEngine::default();
        one.write(vec![key("both")], true).unwrap();
        let other = one.copy().unwrap();
        one.write(vec![key("one")], true).unwrap();
        other.write(vec![key("other")], true).unwrap();
        let has =
            |engine: &dyn Engine| ["both", "one", "other"].map(|name| engine.get(name.as_bytes()).unwrap().is_some());
        assert_eq!((has(&one), has(&*other)), ([true, true, false], [true, false, true]));
    }
}
