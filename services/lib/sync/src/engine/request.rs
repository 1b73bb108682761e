//! What a client asks of the engine.

use std::{sync::Arc, time::Duration};

use polity_accounts::DeviceRef;
use polity_core::{TenantId, sync_token::TokenKey};
use ruma_client_api::filter::FilterDefinition;
use ruma_common::{OwnedDeviceId, OwnedUserId};

use crate::read::StoredRow;

/// Who asks.
#[derive(Clone)]
pub struct Viewer {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Which life of the device: see [`DeviceRef::life`].
    pub device_life: u64,
    /// How the tenant's tokens are sealed.
    pub token_key: Arc<TokenKey>,
}

/// A sync request.
#[derive(Clone)]
pub struct SyncRequest {
    /// Who asks.
    pub viewer: Viewer,
    /// The last answer's token.
    pub since: Option<String>,
    /// What is wanted.
    pub filter: Arc<FilterDefinition>,
    /// Whether all state is wanted, changed or not.
    pub full_state: bool,
    /// Whether state is wanted as it stands after the timeline (MSC4222).
    pub state_after: bool,
    /// How long to wait for news.
    pub timeout: Duration,
}

impl Viewer {
    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceRef<'_> {
        DeviceRef { tenant: self.tenant, user_id: &self.user_id, device_id: &self.device_id, life: self.device_life }
    }

    /// Whose tokens they are: a token is good for one device of one user.
    #[must_use]
    pub fn token_owner(&self) -> String {
        format!("{}|{}", self.user_id, self.device_id)
    }

    /// How the room log names the device that sent a row. See [`crate::sending_device`].
    #[must_use]
    pub fn sending_device(&self) -> String {
        crate::sending_device(&self.user_id, &self.device_id)
    }

    /// The transaction id of a row that this device sent.
    pub(crate) fn transaction_of<'a>(&self, row: &'a StoredRow) -> Option<&'a str> {
        // Most rows are somebody else's: told without making the device's name.
        let sent = row.event.as_ref().is_some_and(|event| event.sender == self.user_id);
        if sent { row.transaction_of(&self.sending_device()) } else { None }
    }
}
