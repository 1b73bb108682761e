//! What a user has set that changes what a sync tells.

use std::{collections::BTreeSet, sync::Arc};

use polity_core::{LogId, Seq};
use quick_cache::sync::Cache;
use ruma_common::{OwnedUserId, UserId};
use serde::Deserialize;

use super::{Engine, SyncError, Viewer};
use crate::{metric, read::StoredRow};

/// Users whom somebody ignores; more are passed over.
const IGNORED: usize = 10_000;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whom the user ignores: never the user.
    pub(crate) ignored: BTreeSet<OwnedUserId>,
}

/// The settings of users who synced lately, by the logs of their records, each good for one position of the user's record.
pub struct SettingsCache(Cache<LogId, (Seq, Arc<Settings>)>);

/// `m.ignored_user_list`.
#[derive(Deserialize)]
struct IgnoredUsers {
    ignored_users: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

impl Settings {
    /// Whether events of this user are kept from the one whose settings these are.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>
    pub(crate) fn ignores(&self, user_id: &UserId) -> bool {
        !self.ignored.is_empty() && self.ignored.contains(user_id)
    }

    /// Whether a row's event is kept from the user. State of ignored users is told: without it the room would be another one.
    #[must_use]
    pub fn hides(&self, row: &StoredRow) -> bool {
        row.event.as_ref().is_some_and(|event| event.state_key.is_none() && self.ignores(&event.sender))
    }

    fn read(ignored_user_list: &[u8], of: &UserId) -> Self {
        let list: Option<IgnoredUsers> = serde_json::from_slice(ignored_user_list).ok();
        let users = list.into_iter().flat_map(|list| list.ignored_users.into_keys()).take(IGNORED);
        let users = users.filter_map(|user| OwnedUserId::try_from(user).ok());
        // Who ignores himself would lose what he says.
        Self { ignored: users.filter(|user| user != of).collect() }
    }
}

impl SettingsCache {
    /// Those of at most so many users.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    pub(super) fn tell_size(&self) {
        metric::entries("settings", self.0.len());
    }
}

impl Engine {
    /// A user's settings as they stand now. From memory as long as the user's record doesn't move.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn settings(&self, viewer: &Viewer) -> Result<Arc<Settings>, SyncError> {
        let log = viewer.user_log;
        let known = self.heads.get(viewer.tenant, log);
        if let (Some(known), Some((at, settings))) = (known, self.settings.0.get(&log))
            && at >= known
        {
            return Ok(settings);
        }
        let reading = self.heads.reading(log);
        let (entries, at) = self.accounts.account_data_now(viewer.tenant, &viewer.user_id).await?;
        self.heads.read(reading, viewer.tenant, log, at);
        let list = entries.iter().find(|entry| entry.scope.is_empty() && entry.key == "m.ignored_user_list");
        let list = list.and_then(|list| list.value.as_deref());
        let settings = Arc::new(list.map(|list| Settings::read(list, &viewer.user_id)).unwrap_or_default());
        self.settings.0.insert(log, (at, Arc::clone(&settings)));
        Ok(settings)
    }
}
