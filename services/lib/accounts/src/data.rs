//! What users keep here: profile, account data, push rules.

use std::collections::BTreeMap;

use polity_core::{Seq, TenantId};
use polity_store::Store;
use ruma_common::{RoomId, UserId};

use crate::{
    Accounts, Change, Entry, Error,
    account::{Account, NAME},
    jobs,
    record::{self, Must, Refused, kind},
};

/// The fields of a profile.
pub const PROFILE_FIELDS: [&str; 2] = ["displayname", "avatar_url"];
/// A value of account data (and any other entry that clients set) has at most this many bytes.
const VALUE_MAX: usize = 256 * 1024;
/// A display name or avatar address has at most this many bytes.
const PROFILE_MAX: usize = 1000;

/// Whether a field of a profile may have that value.
pub(crate) fn check_profile(field: &str, value: &str) -> Result<(), Error> {
    if value.len() > PROFILE_MAX {
        return Err(Error::TooLarge(format!("the {field} has more than {PROFILE_MAX} bytes")));
    }
    Ok(())
}

/// A user as everybody may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Public {
    /// The fields of the profile that are set.
    pub profile: BTreeMap<String, String>,
    /// Whether nobody uses the account any more.
    pub deactivated: bool,
}

/// A user as everybody may see it, whatever was acknowledged before; `None`: there is no such account.
///
/// # Errors
/// When the store can't be read.
pub async fn public(store: &dyn Store, tenant: TenantId, user_id: &UserId) -> Result<Option<Public>, Error> {
    let entries = record::entries(store, tenant, user_id, kind::PROFILE, Some(""));
    let (account, entries) = futures_util::try_join!(record::entry(store, tenant, user_id, NAME), entries)?;
    let Some(account) = account else { return Ok(None) };
    let deactivated = account.decode::<Account>()?.is_none_or(|account| account.deactivated);
    let field = |entry: Entry| Ok::<_, Error>(entry.decode()?.map(|value| (entry.key, value)));
    let profile = entries.into_iter().filter_map(|entry| field(entry).transpose()).collect::<Result<_, _>>()?;
    Ok(Some(Public { profile, deactivated }))
}

impl Accounts {
    /// A user's profile: the fields that are set.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub async fn profile(&self, tenant: TenantId, user_id: &UserId) -> Result<BTreeMap<String, String>, Error> {
        let public = public(&*self.store, tenant, user_id).await?;
        public.map(|public| public.profile).ok_or(Error::NoAccount)
    }

    /// Sets (or removes) a field of a profile. The rooms are told by a job.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoAccount`], [`Error::Deactivated`].
    pub async fn set_profile(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        field: &str,
        value: Option<String>,
    ) -> Result<(), Error> {
        if let Some(value) = &value {
            check_profile(field, value)?;
        }
        let change = match value {
            Some(value) => Change::set(kind::PROFILE, "", field, &value)?,
            None => Change::new(kind::PROFILE, "", field, None),
        };
        self.update(tenant, user_id, NAME, None, |account| {
            // What was asked for while the account still was in use gives no name back.
            if self.account(account.as_ref())?.ok_or(Error::NoAccount)?.deactivated {
                return Err(Error::Deactivated);
            }
            Ok(((), vec![change.clone(), jobs::owe(jobs::PROFILE)]))
        })
        .await
    }

    /// Account data: global (empty scope) or of a room. JSON as the client sent it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        scope: &str,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entry(tenant, user_id, (kind::ACCOUNT_DATA, scope, key)).await?.and_then(|entry| entry.value))
    }

    /// All account data of a room.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data_of_room(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        room_id: &RoomId,
    ) -> Result<Vec<Entry>, Error> {
        let scope = Some(room_id.as_str());
        let mut all = record::entries(&*self.store, tenant, user_id, kind::ACCOUNT_DATA, scope).await?;
        all.retain(|entry| entry.value.is_some());
        Ok(all)
    }

    /// Sets account data. A user keeps at most 10,000 values and 8 MiB of it, of all rooms together: all of it is part of a first
    /// sync.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Full`], [`Error::NoAccount`].
    pub async fn set_account_data(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        (scope, key): (&str, &str),
        value: Vec<u8>,
    ) -> Result<(), Error> {
        if value.len() > VALUE_MAX {
            return Err(Error::TooLarge(format!("account data has at most {VALUE_MAX} bytes")));
        }
        let change = Change::new(kind::ACCOUNT_DATA, scope, key, Some(value));
        match self.append(tenant, user_id, vec![change], vec![Must::Exist]).await? {
            Ok(_) => Ok(()),
            Err(Refused::Full) => Err(Error::Full),
            Err(_) => Err(Error::NoAccount),
        }
    }

    /// All account data, of every scope, and the position of the record for which it holds.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data_now(&self, tenant: TenantId, user_id: &UserId) -> Result<(Vec<Entry>, Seq), Error> {
        let projected = polity_log::read::projected_seq(&*self.store, record::log(tenant, user_id)).await?;
        let mut entries = record::entries(&*self.store, tenant, user_id, kind::ACCOUNT_DATA, None).await?;
        // Entries are written after their rows: those of the newest rows may be missing.
        let (changes, at) = self.account_data_after(tenant, user_id, projected).await?;
        for Change { scope, key, value, .. } in changes {
            match entries.iter_mut().find(|entry| (&entry.scope, &entry.key) == (&scope, &key)) {
                Some(entry) => entry.value = value,
                None => entries.push(Entry { scope, key, value, seq: at }),
            }
        }
        Ok((entries, at))
    }

    /// What account data changed after a position: scope, key and value; and the position of the record then.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account_data_after(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        after: Seq,
    ) -> Result<(Vec<Change>, Seq), Error> {
        let (mut at, mut out): (Seq, Vec<Change>) = (after, Vec::new());
        loop {
            let (changes, last, more) = record::changes_after(&*self.store, tenant, user_id, at).await?;
            for change in changes.into_iter().filter(|change| change.kind == kind::ACCOUNT_DATA) {
                out.retain(|earlier| (&earlier.scope, &earlier.key) != (&change.scope, &change.key));
                out.push(change);
            }
            at = last;
            if !more {
                return Ok((out, at));
            }
        }
    }

    /// A user's push rules, as JSON: the default ones, until they are changed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn push_rules(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<u8>, Error> {
        if let Some(own) = self.account_data(tenant, user_id, "", "m.push_rules").await? {
            return Ok(own);
        }
        let rules = serde_json::json!({"global": ruma_common::push::Ruleset::server_default(user_id)});
        Ok(rules.to_string().into_bytes())
    }
}
