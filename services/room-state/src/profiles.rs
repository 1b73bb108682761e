//! What rooms show of users: their profiles, which `lib/accounts` keeps.
//!
//! What changes there is brought to the rooms in which the user is by who looks for them after the change. A join that is under way is
//! none of those yet, and may show what was before the change: so whoever joins a user looks again afterwards. One of the two sees what the
//! other one did.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use polity_accounts::Error;
use polity_core::{
    LogKey, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::LogError;
use polity_store::{Store, StoreError};
use ruma_common::{OwnedUserId, UserId};

use crate::{
    command::{Leave, Requester, SetProfile},
    error::RoomError,
    rooms::Service,
};

/// Profiles read at once for one command, or one group of them.
const AT_ONCE: usize = 16;
/// How long a room waits for those of a group: other commands wait with it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A user's profile, as member events have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) displayname: Option<String>,
    pub(crate) avatar_url: Option<String>,
}

/// Profiles that were looked for. One that can't be read keeps nothing from the others.
pub(crate) type Profiles = HashMap<OwnedUserId, Result<Profile, LogError>>;

/// A user as others see it.
#[derive(Default)]
struct Seen {
    profile: Profile,
    deactivated: bool,
}

/// A user as it is; as good as nobody, if it isn't one of this server's.
async fn see(store: &dyn Store, tenant: TenantId, user_id: &UserId) -> Result<Seen, Error> {
    let Some(mut public) = polity_accounts::public(store, tenant, user_id).await? else { return Ok(Seen::default()) };
    let mut field = |name| public.profile.remove(name);
    let profile = Profile { displayname: field("displayname"), avatar_url: field("avatar_url") };
    Ok(Seen { profile, deactivated: public.deactivated })
}

/// The profiles of these, as they are.
pub(crate) async fn read(store: &dyn Store, tenant: TenantId, users: BTreeSet<OwnedUserId>) -> Profiles {
    let one = |user_id: OwnedUserId| async move {
        let seen = see(store, tenant, &user_id).await;
        (user_id, seen.map(|seen| seen.profile).map_err(LogError::from))
    };
    stream::iter(users.into_iter().map(one)).buffer_unordered(AT_ONCE).collect().await
}

/// The same for a room's task, which has other things to do as well.
pub(crate) async fn read_soon(store: &dyn Store, tenant: TenantId, users: BTreeSet<OwnedUserId>) -> Profiles {
    if users.is_empty() {
        return Profiles::new();
    }
    match tokio::time::timeout(PATIENCE, read(store, tenant, users.clone())).await {
        Ok(profiles) => profiles,
        Err(_) => {
            let late = || LogError::Store(StoreError::Unavailable("profiles aren't there in time".to_owned()));
            users.into_iter().map(|user_id| (user_id, Err(late()))).collect()
        }
    }
}

impl Service {
    /// The profile of a user as it is; empty for one who isn't here.
    pub(crate) async fn profile(&self, tenant: TenantId, user_id: &UserId) -> Result<Profile, RoomError> {
        let seen = see(&*self.deps.store, tenant, user_id).await;
        Ok(seen.map_err(LogError::from)?.profile)
    }

    /// Looks again at who has joined a room: gives the room the user's profile, unless the join shows it already (`shown`, if that is known),
    /// and takes one out whose account was deactivated meanwhile.
    ///
    /// # Errors
    /// When that couldn't be done. The join stands, and whoever asks for it again looks again.
    pub(crate) async fn look_again(
        &self,
        key: LogKey,
        by: &Requester,
        shown: Option<&Profile>,
    ) -> Result<(), RoomError> {
        if planted(Mutation::JoinUnseen) {
            return Ok(());
        }
        let now = see(&*self.deps.store, by.tenant, &by.user_id).await.map_err(LogError::from)?;
        let requester = Requester { call: None, ..by.clone() };
        let command = if now.deactivated {
            Leave { requester, reason: None }.into()
        } else if shown == Some(&now.profile) {
            return Ok(());
        } else {
            SetProfile { requester }.into()
        };
        match self.submit(key, command).await {
            // Who is out again shows nothing.
            Err(error) if error.is_forbidden() => Ok(()),
            done => done.map(|_| ()).map_err(RoomError::begun),
        }
    }
}
