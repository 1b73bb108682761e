//! What a client asks of the engine.

use std::{sync::Arc, time::Duration};

use polity_accounts::DeviceRef;
use polity_core::{LogId, LogKey, TenantId, sync_token::TokenKey};
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
    /// The log of the user's record.
    pub(crate) user_log: LogId,
    /// The log of the device's inbox.
    pub(crate) inbox: LogKey,
    /// The log of the tenant's device lists.
    pub(crate) device_lists: LogId,
    token_owner: String,
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
    /// A device, in its life `device_life`, of a user.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        user_id: OwnedUserId,
        (device_id, device_life): (OwnedDeviceId, u64),
        token_key: Arc<TokenKey>,
    ) -> Self {
        let user_log = crate::user_log(tenant, &user_id);
        let inbox = DeviceRef { tenant, user_id: &user_id, device_id: &device_id, life: device_life }.inbox();
        let token_owner = format!("{user_id}|{device_id}");
        let device_lists = polity_accounts::device_lists_log(tenant);
        Self { tenant, user_id, device_id, device_life, token_key, user_log, inbox, device_lists, token_owner }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceRef<'_> {
        DeviceRef { tenant: self.tenant, user_id: &self.user_id, device_id: &self.device_id, life: self.device_life }
    }

    /// Whose tokens they are: a token is good for one device of one user.
    #[must_use]
    pub fn token_owner(&self) -> &str {
        &self.token_owner
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
