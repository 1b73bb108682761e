//! What is a user's own and looked at by every sync: memberships, read receipts, counts of keys. Kept for as long as nothing writes it.

use std::{future::Future, sync::Arc};

use polity_accounts::KeyCounts;
use polity_core::{LogId, LogKey, TenantId};
use polity_store::{
    Kept, Mark, Marks,
    rooms::memberships,
    schema,
    users::{OwnReceipt, own_receipts},
};
use ruma_client_api::filter::FilterDefinition;
use ruma_common::{RoomId, UserId};

use super::{Engine, SyncError, Viewer, collect::Memberships};
use crate::read::ReadError;

/// The algorithm whose keys are counted for clients also where there are none.
const ALWAYS_TOLD: &str = "signed_curve25519";

/// See the module.
pub struct Own {
    marks: Arc<Marks>,
    /// By the log of the user's record.
    memberships: Kept<LogId, Arc<Memberships>>,
    /// By the logs of the user's record and of the room.
    receipts: Kept<(LogId, LogId), Arc<[OwnReceipt]>>,
    /// By the log of the user's record and the filter's id.
    filters: Kept<(LogId, String), Arc<FilterDefinition>>,
    /// By the log of the device's inbox.
    keys: Kept<LogId, Arc<KeyCounts>>,
}

impl Own {
    /// Nothing is kept yet, and at most about `bytes` later. `marks` are those of all writes to the engine's store.
    #[must_use]
    pub fn new(marks: Arc<Marks>, bytes: u64) -> Self {
        let memberships =
            Kept::new("memberships", bytes / 2, |_, rooms: &Arc<Memberships>| 64 + 128 * rooms.len() as u64);
        let receipts =
            Kept::new("own_receipts", bytes / 4, |_, receipts: &Arc<[OwnReceipt]>| 96 + 192 * receipts.len() as u64);
        let keys = Kept::new("key_counts", bytes / 8, |_, _| 256);
        let filters = Kept::new("filters", bytes / 8, |_, _| 2048);
        Self { marks, memberships, receipts, filters, keys }
    }
}

impl Engine {
    /// How a user stands in all rooms.
    pub(crate) async fn memberships(&self, tenant: TenantId, user_id: &UserId) -> Result<Arc<Memberships>, SyncError> {
        self.memberships_of(tenant, user_id, crate::user_log(tenant, user_id)).await
    }

    /// How the viewer stands in all rooms.
    pub(crate) async fn own_memberships(&self, viewer: &Viewer) -> Result<Arc<Memberships>, SyncError> {
        self.memberships_of(viewer.tenant, &viewer.user_id, viewer.user_log).await
    }

    async fn memberships_of(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        user_log: LogId,
    ) -> Result<Arc<Memberships>, SyncError> {
        let mark = self.own.marks.of(&schema::MEMBERSHIPS, tenant, user_id);
        let read = async { memberships(&*self.store, tenant, user_id).await.map(Arc::new) };
        Ok(self.own.memberships.get_or_read(&user_log, mark, read).await.map_err(ReadError::from)?)
    }

    /// How far the viewer has read a room.
    pub(crate) async fn receipts(
        &self,
        viewer: &Viewer,
        (room_id, key): (&RoomId, LogKey),
    ) -> Result<Arc<[OwnReceipt]>, SyncError> {
        let (tenant, user_id) = (viewer.tenant, &viewer.user_id);
        let mark = self.own.marks.of(&schema::OWN_RECEIPTS, tenant, user_id);
        let read = async { own_receipts(&*self.store, tenant, user_id, room_id).await.map(Arc::from) };
        Ok(self.own.receipts.get_or_read(&(viewer.user_log, key.log), mark, read).await.map_err(ReadError::from)?)
    }

    /// A filter that the viewer stored.
    ///
    /// # Errors
    /// What `read` gives, which reads the filter's text, and when that isn't one.
    pub async fn stored_filter<E: From<SyncError>>(
        &self,
        viewer: &Viewer,
        id: &str,
        read: impl Future<Output = Result<Vec<u8>, E>>,
    ) -> Result<Arc<FilterDefinition>, E> {
        let mark = self.own.marks.of(&schema::FILTERS, viewer.tenant, &viewer.user_id);
        let parsed = async {
            let text = read.await?;
            let damaged = |error: serde_json::Error| SyncError::from(ReadError::Damaged(error.to_string()));
            Ok(Arc::new(serde_json::from_slice(&text).map_err(damaged)?))
        };
        self.own.filters.get_or_read(&(viewer.user_log, id.to_owned()), mark, parsed).await
    }

    /// Stands still as long as a tenant's directory of public rooms does.
    #[must_use]
    pub fn listings(&self, tenant: TenantId) -> Mark {
        self.own.marks.of_listings(tenant)
    }

    /// How many keys the viewer's device has left. Clients upload keys of a kind when they are told that there are none.
    pub(crate) async fn device_keys(&self, viewer: &Viewer) -> Result<Arc<KeyCounts>, SyncError> {
        let (tenant, user_id, marks) = (viewer.tenant, &viewer.user_id, &self.own.marks);
        let mark = marks.of(&schema::ONE_TIME_KEYS, tenant, user_id) + marks.of(&schema::USER_RECORD, tenant, user_id);
        let read = async {
            let mut counts = self.accounts.key_counts(viewer.device()).await?;
            counts.one_time.entry(ALWAYS_TOLD.to_owned()).or_default();
            Ok::<_, SyncError>(Arc::new(counts))
        };
        self.own.keys.get_or_read(&viewer.inbox.log, mark, read).await
    }
}
