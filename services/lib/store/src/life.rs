//! The store's life: what positions belong to. A store that was put back from a copy begins another one.

use bytes::Bytes;
use polity_core::{
    IncarnationId,
    mutation::{Mutation, planted},
};

use crate::{Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Values, schema, values_of};

/// Its row in `meta`.
pub const LIFE: &str = "incarnation";
const FORMAT: u8 = 1;
/// Nobody else writes the row once it is there.
const TRIES: usize = 8;

/// Begins another life: whoever opens the store from now on has it. One-time keys and positions of the one before are void.
///
/// # Errors
/// When the store can't be read or written: repeat it.
pub async fn begin(store: &dyn Store, life: IncarnationId) -> Result<(), StoreError> {
    if planted(Mutation::SameLife) {
        return Ok(());
    }
    for _ in 0..TRIES {
        let row = store.get(&schema::META, values_of![LIFE], Values::new(), Consistency::Serial).await?;
        let (one, other) = row
            .and_then(|row| row.guards)
            .ok_or_else(|| StoreError::corrupt(schema::META.name, "the store's incarnation"))?;
        let value: Bytes = [&[FORMAT][..], life.as_bytes()].concat().into();
        let condition = Condition { row: Values::new(), expect: Expect::Guards(one, other) };
        let change = Change::Put(Row::new(Values::new(), value).guarded(one, other));
        match store.cas(&schema::META, values_of![LIFE], condition, vec![change]).await {
            Ok(Cas::Applied) => return Ok(()),
            // It may be written: it is written again.
            Ok(Cas::Refused(_)) | Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Unavailable("the store's life could not be written".to_owned()))
}
