//! What is a user's own and looked at by every sync: memberships, read receipts, counts of keys. Kept for as long as nothing writes it.

use std::{future::Future, sync::Arc};

use polity_accounts::KeyCounts;
use polity_core::TenantId;
use polity_store::{
    Kept, Mark, Marks,
    rooms::memberships,
    schema,
    users::{OwnReceipt, own_receipts},
};
use ruma_client_api::filter::FilterDefinition;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{Engine, SyncError, Viewer, collect::Memberships};
use crate::read::ReadError;

/// See the module.
pub struct Own {
    marks: Arc<Marks>,
    memberships: Kept<(TenantId, OwnedUserId), Arc<Memberships>>,
    receipts: Kept<(TenantId, OwnedUserId, OwnedRoomId), Arc<[OwnReceipt]>>,
    filters: Kept<(TenantId, OwnedUserId, String), Arc<FilterDefinition>>,
    /// By the name of the device in its life, too.
    keys: Kept<(TenantId, OwnedUserId, String), Arc<KeyCounts>>,
}

impl Own {
    /// Nothing is kept yet, and at most about `bytes` later. `marks` are those of all writes to the engine's store.
    #[must_use]
    pub fn new(marks: Arc<Marks>, bytes: u64) -> Self {
        let memberships =
            Kept::new("memberships", bytes / 2, |_, rooms: &Arc<Memberships>| 64 + 128 * rooms.len() as u64);
        let receipts =
            Kept::new("own_receipts", bytes / 4, |_, receipts: &Arc<[OwnReceipt]>| 160 + 192 * receipts.len() as u64);
        let keys = Kept::new("key_counts", bytes / 8, |_, _| 384);
        let filters = Kept::new("filters", bytes / 8, |_, _| 2048);
        Self { marks, memberships, receipts, filters, keys }
    }
}

impl Engine {
    /// How a user stands in all rooms.
    pub(crate) async fn memberships(&self, tenant: TenantId, user_id: &UserId) -> Result<Arc<Memberships>, SyncError> {
        let mark = self.own.marks.of(&schema::MEMBERSHIPS, tenant, user_id);
        let read = async { memberships(&*self.store, tenant, user_id).await.map(Arc::new) };
        let name = (tenant, user_id.to_owned());
        Ok(self.own.memberships.get_or_read(&name, mark, read).await.map_err(ReadError::from)?)
    }

    /// How far the viewer has read a room.
    pub(crate) async fn receipts(&self, viewer: &Viewer, room_id: &RoomId) -> Result<Arc<[OwnReceipt]>, SyncError> {
        let (tenant, user_id) = (viewer.tenant, &viewer.user_id);
        let mark = self.own.marks.of(&schema::OWN_RECEIPTS, tenant, user_id);
        let read = async { own_receipts(&*self.store, tenant, user_id, room_id).await.map(Arc::from) };
        let name = (tenant, user_id.clone(), room_id.to_owned());
        Ok(self.own.receipts.get_or_read(&name, mark, read).await.map_err(ReadError::from)?)
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
        self.own.filters.get_or_read(&(viewer.tenant, viewer.user_id.clone(), id.to_owned()), mark, parsed).await
    }

    /// Stands still as long as a tenant's directory of public rooms does.
    #[must_use]
    pub fn listings(&self, tenant: TenantId) -> Mark {
        self.own.marks.of_listings(tenant)
    }

    /// How many keys the viewer's device has left.
    pub(crate) async fn device_keys(&self, viewer: &Viewer) -> Result<Arc<KeyCounts>, SyncError> {
        let (tenant, user_id, marks) = (viewer.tenant, &viewer.user_id, &self.own.marks);
        let mark = marks.of(&schema::ONE_TIME_KEYS, tenant, user_id) + marks.of(&schema::USER_RECORD, tenant, user_id);
        let read = async { self.accounts.key_counts(viewer.device()).await.map(Arc::new) };
        let name = (tenant, user_id.clone(), viewer.device().name());
        Ok(self.own.keys.get_or_read(&name, mark, read).await?)
    }
}
