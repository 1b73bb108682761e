//! Names that several crates must spell alike.

use polity_core::{LogId, TenantId};
use ruma_common::{DeviceId, UserId};

/// How a room's log names the device that sent a row: unique among all users of the tenant.
#[must_use]
pub fn sending_device(user_id: &UserId, device_id: &DeviceId) -> String {
    format!("{user_id}|{device_id}")
}

/// The log of a user's record, which names the user on the bus.
#[must_use]
pub fn user_log(tenant: TenantId, user_id: &UserId) -> LogId {
    LogId::derived(tenant, "user", user_id.as_str())
}
