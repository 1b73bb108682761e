//! Devices: entries of the user's record, so that a logout is a row of it. Each has lives: from a login to the logout.

use std::collections::BTreeSet;

use polity_core::{Life, LogId, LogKey, TenantId};
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{
    Accounts, Change, Error, jobs,
    record::{self, Must, kind},
    shelf::{self, Living, Shelf, Stored},
};

/// Devices per user.
pub(crate) const DEVICES: usize = 1000;
/// A device id or display name has at most this many bytes.
pub(crate) const NAME_MAX: usize = 512;

/// A device in one of its lives. What stands beside its entry (inbox, one-time keys) is named by the life, so that what is written
/// late for one that has ended reaches no later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRef<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user_id: &'a UserId,
    /// The device.
    pub device_id: &'a DeviceId,
    /// Which life it is: no other device of this id ever has that number.
    pub life: u64,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// See [`DeviceRef::life`].
    pub life: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What people call it.
    pub display_name: Option<String>,
    /// See [`DeviceRef::life`].
    pub life: u64,
}

impl From<Living> for Device {
    fn from(Living { device_id, life, stored }: Living) -> Self {
        Self { device_id, display_name: stored.display_name, life }
    }
}

/// What goes in the row that ends a device's life, beside its own entry.
pub(crate) fn goes_with(device: DeviceRef<'_>) -> [Change; 2] {
    [Change::new(kind::DEVICE_KEYS, "", &device.place(), None), jobs::owe(jobs::LEFTOVERS)]
}

// === impl DeviceRef ===

impl DeviceRef<'_> {
    /// Names the device in this life: within its user, never again.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.life, self.device_id)
    }

    /// The key of the record's entries that belong to it.
    pub(crate) fn place(&self) -> String {
        shelf::place(self.device_id, self.life)
    }

    pub(crate) fn alive(&self) -> Must {
        Must::Alive { device_id: self.device_id.as_str().into(), life: self.life }
    }

    /// The log of its inbox. The life of the log says to a sync token that it is another one; after 1,023 on one shelf it may be an
    /// earlier one's number, whose tokens nobody has any more.
    #[must_use]
    pub fn inbox(&self) -> LogKey {
        let name = format!("{}|{}", self.user_id, self.name());
        let life = u16::try_from(shelf::ordinal(self.life) % u64::from(Life::MAX.get())).map_or(0, |life| life)
            + Life::FIRST.get();
        let life = Life::new(life).unwrap_or(Life::MAX);
        LogKey { tenant: self.tenant, log: LogId::derived(self.tenant, "inbox", &name), life }
    }
}

// === impl Session ===

impl Session {
    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceRef<'_> {
        DeviceRef { tenant: self.tenant, user_id: &self.user_id, device_id: &self.device_id, life: self.life }
    }
}

// === impl Accounts ===

impl Accounts {
    /// A user's devices.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn devices(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Device>, Error> {
        let mut devices: Vec<Living> =
            self.shelves(tenant, user_id).await?.into_iter().flat_map(Shelf::living).collect();
        self.keep_logged_in(tenant, user_id, &mut devices).await?;
        Ok(devices.into_iter().map(Device::from).collect())
    }

    async fn shelves(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Shelf>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE, None).await?;
        entries.iter().map(|entry| Shelf::of(Some(entry))).collect()
    }

    /// One of a user's devices.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn device(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<Option<Device>, Error> {
        Ok(self.living(tenant, user_id, device_id).await?.map(Device::from))
    }

    /// The device of this id, if it lives.
    pub(crate) async fn living(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<Option<Living>, Error> {
        let entry = self.entry(tenant, user_id, (kind::DEVICE, "", &shelf::key(device_id))).await?;
        let device = Shelf::of(entry.as_ref())?.living().find(|device| device.device_id == device_id);
        let mut device = Vec::from_iter(device);
        self.keep_logged_in(tenant, user_id, &mut device).await?;
        Ok(device.pop())
    }

    /// Renames a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::TooLarge`].
    pub async fn rename_device(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<(), Error> {
        if display_name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            return Err(Error::TooLarge(format!("device names have at most {NAME_MAX} bytes")));
        }
        let shelf_key = shelf::key(device_id);
        let renamed = self.update(tenant, user_id, (kind::DEVICE, "", &shelf_key), None, |entry| {
            let mut shelf = Shelf::of(entry.as_ref())?;
            let (_, device) = shelf.device(device_id).ok_or(Error::NoDevice)?;
            if device.display_name == display_name {
                return Ok((false, Vec::new()));
            }
            let device = Stored { display_name: display_name.clone(), ..device.clone() };
            shelf.set(device_id, device);
            Ok((true, vec![shelf.change(&shelf_key)?, jobs::owe(jobs::LISTS)]))
        });
        let new = renamed.await?;
        self.devices_acknowledged(tenant, user_id, new).await
    }

    /// Logs devices out: their tokens end, their keys go. Ids that no device has are passed over.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn remove_devices(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        device_ids: &[OwnedDeviceId],
    ) -> Result<(), Error> {
        let there = self.devices(tenant, user_id).await?.into_iter();
        let gone = there.filter(|device| device_ids.contains(&device.device_id));
        let gone: Vec<_> = gone.map(|device| (device.device_id, device.life)).collect();
        self.end_devices(tenant, user_id, &gone).await
    }

    /// Takes away the entries of devices that the account logged out, all at once.
    pub(crate) async fn end_dead_devices(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let there: Vec<Living> = self.shelves(tenant, user_id).await?.into_iter().flat_map(Shelf::living).collect();
        let mut living = there.clone();
        self.keep_logged_in(tenant, user_id, &mut living).await?;
        let living: Vec<_> = living.into_iter().map(|device| (device.device_id, device.life)).collect();
        let dead = there.into_iter().map(|device| (device.device_id, device.life));
        let dead: Vec<_> = dead.filter(|device| !living.contains(device)).collect();
        self.end_devices(tenant, user_id, &dead).await
    }

    /// Ends lives of devices, if they haven't ended yet: those of one shelf in one row.
    async fn end_devices(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        gone: &[(OwnedDeviceId, u64)],
    ) -> Result<(), Error> {
        let mut changed = false;
        for shelf_key in gone.iter().map(|(device_id, _)| shelf::key(device_id)).collect::<BTreeSet<_>>() {
            let ended = self.update(tenant, user_id, (kind::DEVICE, "", &shelf_key), None, |entry| {
                let mut shelf = Shelf::of(entry.as_ref())?;
                let mut changes = Vec::new();
                for (device_id, life) in gone {
                    if shelf.device(device_id).is_some_and(|(now, _)| now == *life) {
                        shelf.end(device_id, *life);
                        changes.extend(goes_with(DeviceRef { tenant, user_id, device_id, life: *life }));
                    }
                }
                if !changes.is_empty() {
                    changes.extend([shelf.change(&shelf_key)?, jobs::owe(jobs::LISTS)]);
                }
                Ok((!changes.is_empty(), changes))
            });
            changed |= ended.await?;
        }
        self.devices_acknowledged(tenant, user_id, changed).await
    }

    /// Clears up what stands beside devices that are gone, their inboxes and keys, and frees their places.
    pub(crate) async fn drop_leftovers(&self, tenant: TenantId, user_id: &UserId) -> Result<(), Error> {
        let mut outcome = Ok(());
        for entry in record::entries(&*self.store, tenant, user_id, kind::DEVICE, None).await? {
            let mut cleared = Vec::new();
            for (device_id, life) in Shelf::of(Some(&entry))?.ended() {
                let device = DeviceRef { tenant, user_id, device_id: &device_id, life };
                // One that can't be cleared up yet keeps no other from it.
                match self.drop_leftovers_of(device).await {
                    Ok(()) => cleared.push((device_id, life)),
                    error => outcome = error,
                }
            }
            self.update(tenant, user_id, (kind::DEVICE, "", &entry.key), None, |now| {
                let mut shelf = Shelf::of(now.as_ref())?;
                let mut changes = shelf.release(&cleared);
                if !changes.is_empty() {
                    changes.push(shelf.change(&entry.key)?);
                }
                Ok(((), changes))
            })
            .await?;
        }
        outcome
    }

    pub(crate) async fn drop_leftovers_of(&self, device: DeviceRef<'_>) -> Result<(), Error> {
        self.drop_one_time_keys(device).await?;
        self.drop_inbox(device).await
    }
}
