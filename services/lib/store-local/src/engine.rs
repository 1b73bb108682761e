//! What is asked of an ordered key-value store.

use std::sync::Arc;

use bytes::Bytes;
use polity_store::StoreError;

/// A key and its value.
pub(crate) type Pair = (Bytes, Bytes);

/// A write of one key; `None` removes it.
pub(crate) type KeyWrite = (Vec<u8>, Option<Bytes>);

/// An ordered key-value store.
pub(crate) trait Engine: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Hands the pairs with `begin <= key < end` to `each`, in order (or reversed), until it says stop. All of one moment.
    fn range(
        &self,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        each: &mut dyn FnMut(Pair) -> bool,
    ) -> Result<(), StoreError>;

    /// A copy of it as it stands, in memory; `None` if it isn't in memory itself.
    fn copy(&self) -> Option<Arc<dyn Engine>> {
        None
    }

    /// Whether it would take a write at once.
    fn has_room(&self) -> bool {
        true
    }

    /// Writes all or nothing, after all writes before it: a crash leaves none without those. With `sync`, it is on disk before anybody can read it.
    fn write(&self, writes: Vec<KeyWrite>, sync: bool) -> Result<(), StoreError>;
}
