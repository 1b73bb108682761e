//! The public rooms of a tenant as they were a moment ago, so that a page of them costs no read of their heads.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use std::{cmp::Reverse, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use polity_core::TenantId;
use polity_store::{Mark, rooms};
use polity_sync::read::RoomState;
use quick_cache::sync::Cache;

use crate::{Api, ApiError};

/// Tenants whose list is kept.
const TENANTS: usize = 64;
/// How old a list may be.
const FRESH: Duration = Duration::from_secs(5);

/// How often somebody else's reading is waited for that may turn out to be too old.
const TRIES: usize = 3;
/// Heads of one list that are read at once.
const AT_ONCE: usize = 32;

/// A tenant's listed rooms, the largest first.
pub(crate) type List = Arc<Vec<Arc<RoomState>>>;

/// See the module.
pub(crate) struct Directory {
    /// Each with when it was read, and which listings there were then.
    lists: Cache<TenantId, (Duration, Mark, List)>,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { lists: Cache::new(TENANTS) }
    }
}

impl Api {
    /// A tenant's list, with everything that was listed before the call, and nothing that was taken out. Who asks at the same time
    /// waits for one reading.
    pub(crate) async fn listed(&self, tenant: TenantId) -> Result<List, ApiError> {
        let (lists, now) = (&self.directory.lists, self.clock.monotonic());
        for _ in 0..TRIES {
            let mark = self.engine.listings(tenant);
            let _ = lists.remove_if(&tenant, |(read, at, _)| *at != mark || now.saturating_sub(*read) > FRESH);
            let read = async { Ok::<_, ApiError>((now, mark, self.read_list(tenant).await?)) };
            let (_, at, list) = lists.get_or_insert_async(&tenant, read).await?;
            // Another one's reading may have begun too early.
            if at == mark {
                return Ok(list);
            }
        }
        self.read_list(tenant).await
    }

    async fn read_list(&self, tenant: TenantId) -> Result<List, ApiError> {
        let rooms = rooms::listed_rooms(&*self.store, tenant).await?;
        let heads: Vec<_> = rooms.iter().map(|room_id| self.head_of(tenant, room_id)).collect();
        let mut list = Vec::with_capacity(rooms.len());
        let mut heads = stream::iter(heads).buffer_unordered(AT_ONCE);
        while let Some(head) = heads.try_next().await? {
            list.extend(head.filter(|head| head.room.listed && head.room.summary.joined > 0));
        }
        list.sort_by(|a, b| place(a).cmp(&place(b)));
        Ok(Arc::new(list))
    }
}

/// A room's place in the list.
pub(super) fn place(room: &RoomState) -> (Reverse<u64>, &str) {
    (Reverse(room.room.summary.joined), room.room.room_id.as_str())
}
