//! The nodes of a state trie: immutable bytes, named by their hash.

use bytes::Bytes;
use ruma_common::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;
/// Children of a branch: four bits of the key's hash.
pub(super) const FAN_OUT: usize = 16;
/// A subtree of at most so many entries is one leaf. Wide enough that small rooms are a single node, and small enough that a change
/// writes some 2 KiB.
pub(super) const LEAF_ENTRIES: usize = 24;

/// The name of a node: BLAKE3 of its bytes. All zero: the empty trie.
pub type NodeHash = [u8; 32];

/// The empty trie.
pub const EMPTY: NodeHash = [0; 32];

/// Bytes that are no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged state node: {0}")]
pub struct DamagedNode(pub(super) String);

/// A node.
#[expect(
    clippy::large_enum_variant,
    reason = "nodes are held behind an Arc: a box would only add a hop to each step down"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// All entries of a small subtree, sorted by the hash of their keys.
    Leaf(Vec<Entry>),
    /// The children of a large one.
    Branch([Child; FAN_OUT]),
}

/// A child of a branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its name.
    pub hash: NodeHash,
    /// How many entries it has: four bytes, so that no node's sum is out of bounds, whatever a damaged one says.
    pub count: u32,
}

/// One entry of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The event type; empty among members.
    pub event_type: Box<str>,
    /// The state key.
    pub state_key: Box<str>,
    /// The event.
    pub event: EventRef,
}

/// An event's id, without what all ids of a room have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventRef {
    /// `$` and a hash in URL-safe base64.
    Hash([u8; 32]),
    /// Any other.
    Text(Box<str>),
}

// === impl Node ===

impl Node {
    /// The node's name and bytes.
    pub(super) fn encode(&self) -> Result<(NodeHash, Bytes), DamagedNode> {
        let bytes = postcard::to_extend(self, vec![FORMAT]).map_err(|error| DamagedNode(error.to_string()))?;
        Ok((*blake3::hash(&bytes).as_bytes(), bytes.into()))
    }

    /// Reads a node.
    ///
    /// # Errors
    /// When the bytes aren't those of the node called `hash`.
    pub fn decode(hash: &NodeHash, bytes: &[u8]) -> Result<Self, DamagedNode> {
        if blake3::hash(bytes).as_bytes() != hash {
            return Err(DamagedNode("it doesn't have its hash".to_owned()));
        }
        match bytes {
            [FORMAT, rest @ ..] => postcard::from_bytes(rest).map_err(|error| DamagedNode(error.to_string())),
            _ => Err(DamagedNode("unknown format".to_owned())),
        }
    }

    /// How many entries its subtree has.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Leaf(entries) => entries.len() as u64,
            Self::Branch(children) => children.iter().map(|child| u64::from(child.count)).sum(),
        }
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Leaf(entries) => {
                64 + entries.iter().map(|entry| 88 + entry.event_type.len() + entry.state_key.len()).sum::<usize>()
            }
            Self::Branch(_) => 64 + FAN_OUT * 40,
        }
    }
}

// === impl EventRef ===

impl From<&EventId> for EventRef {
    fn from(id: &EventId) -> Self {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let text = id.as_str();
        let hash = text.strip_prefix('$').and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        match hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok()) {
            // Only if it comes back the same: ids are compared as texts.
            Some(hash) if URL_SAFE_NO_PAD.encode(hash) == text[1..] => Self::Hash(hash),
            _ => Self::Text(text.into()),
        }
    }
}

impl EventRef {
    /// The id.
    ///
    /// # Errors
    /// When a damaged node has none.
    pub fn to_id(&self) -> Result<OwnedEventId, DamagedNode> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let text = match self {
            Self::Hash(hash) => format!("${}", URL_SAFE_NO_PAD.encode(hash)),
            Self::Text(text) => text.to_string(),
        };
        OwnedEventId::try_from(text).map_err(|error| DamagedNode(error.to_string()))
    }
}
