//! Whose devices changed since a token: what a sync would tell of it, and nothing else.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3keyschanges>

use std::{sync::Arc, time::Duration};

use polity_core::sync_token::SyncToken;
use ruma_client_api::filter::{Filter, FilterDefinition, LazyLoadOptions, RoomEventFilter};
use ruma_common::OwnedUserId;

use super::{Engine, SyncError, SyncRequest, Viewer};

/// Whose devices are to be looked up, and whose no longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Devices changed, or came into sight.
    pub changed: Vec<OwnedUserId>,
    /// They share no encrypted room any more.
    pub left: Vec<OwnedUserId>,
}

impl Engine {
    /// What changed after the token `from`, up to now: `to` is an earlier token, so nothing is missing.
    ///
    /// # Errors
    /// For tokens that aren't this device's, and when something can't be read.
    pub async fn key_changes(&self, viewer: Viewer, from: String, to: &str) -> Result<KeyChanges, SyncError> {
        SyncToken::decode(to, &viewer.token_key, viewer.token_owner())?;
        let request = SyncRequest {
            viewer,
            since: Some(from),
            filter: Arc::new(nothing_else()),
            full_state: false,
            state_after: false,
            timeout: Duration::ZERO,
        };
        let mut progress = self.begin(&request).await?;
        let memberships = self.own_memberships(&request.viewer).await?;
        let answer = self.collect(&request, &mut progress, &memberships).await?;
        Ok(KeyChanges { changed: answer.devices_changed, left: answer.devices_left })
    }
}

/// A filter that keeps rooms from being rendered. Devices don't depend on filters of events.
fn nothing_else() -> FilterDefinition {
    let mut filter = FilterDefinition::default();
    filter.account_data = Filter::ignore_all();
    filter.room.ephemeral = RoomEventFilter::ignore_all();
    filter.room.account_data = RoomEventFilter::ignore_all();
    filter.room.state = RoomEventFilter::ignore_all();
    filter.room.state.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: true };
    // One row: a filter without types would look for more.
    filter.room.timeline.limit = Some(1_u32.into());
    filter
}
