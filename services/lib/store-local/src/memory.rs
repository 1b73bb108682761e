//! The engine in memory: for tests and simulation.

use std::collections::BTreeMap;

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
