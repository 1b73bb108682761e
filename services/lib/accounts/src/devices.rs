//! Devices: entries of the user's record, so that a logout is a row of it. Each has lives: from a login to the logout.

use polity_core::{Life, LogId, LogKey, TenantId};
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Change, Entry, Error, jobs,
    record::{self, Must, kind},
    token::Tokens,
};

/// Devices per user.
pub(crate) const DEVICES: usize = 1000;
/// A device id or display name has at most this many bytes.
pub(crate) const NAME_MAX: usize = 512;
/// Devices that one row removes.
const ROW_DEVICES: usize = 50;

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
    /// How often a device with this id was logged out before.
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

/// A device's id, and what its entry says.
pub(crate) type NamedSlot = (OwnedDeviceId, Slot);

/// The stored entry: it stays when the device is gone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The life that it has, or would have next.
    pub(crate) life: u64,
    pub(crate) device: Option<Stored>,
}

/// A device that lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) display_name: Option<String>,
    pub(crate) created_ms: u64,
    pub(crate) current: Tokens,
    /// Still good until one of the current ones is used.
    pub(crate) previous: Option<Tokens>,
    /// The account's when it logged in. See [`crate::account::Account::keeps`].
    pub(crate) epoch: u64,
}

/// The life of the device that an entry's value describes, if it lives.
pub(crate) fn life(value: &[u8]) -> Option<u64> {
    let slot: Slot = postcard::from_bytes(value).ok()?;
    slot.device.map(|_| slot.life)
}

fn shown((device_id, Slot { life, device }): NamedSlot) -> Option<Device> {
    Some(Device { device_id, display_name: device?.display_name, life })
}

/// What goes in the row that ends a device's life, beside its own entry.
pub(crate) fn goes_with(device: DeviceRef<'_>) -> [Change; 3] {
    let (user_id, device_id) = (device.user_id.as_str(), device.device_id.as_str());
    [
        Change::new(kind::DEVICE_KEYS, "", device_id, None),
        Change::new(kind::SIGNATURES, user_id, device_id, None),
        jobs::owe_device(&device.name()),
    ]
}

// === impl DeviceRef ===

impl DeviceRef<'_> {
    /// Names the device in this life: within its user, never again.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.life, self.device_id)
    }

    pub(crate) fn alive(&self) -> Must {
        Must::Alive { device_id: self.device_id.as_str().into(), life: self.life }
    }

    /// The log of its inbox. The life of the log says to a sync token that it is another one; after 1,023 of them it may be an
    /// earlier one's number, whose tokens nobody has any more.
    #[must_use]
    pub fn inbox(&self) -> LogKey {
        let name = format!("{}|{}", self.user_id, self.name());
        let life = u16::try_from(self.life % u64::from(Life::MAX.get())).map_or(0, |life| life) + Life::FIRST.get();
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

// === impl Slot ===

impl Slot {
    /// What an entry says; none: never used.
    pub(crate) fn of(entry: Option<&Entry>) -> Result<Self, Error> {
        Ok(entry.map(Entry::decode).transpose()?.flatten().unwrap_or_default())
    }

    /// The entry that says so.
    pub(crate) fn change(&self, device_id: &DeviceId) -> Result<Change, Error> {
        Change::set(kind::DEVICE, "", device_id.as_str(), self)
    }
}

// === impl Accounts ===

impl Accounts {
    /// A user's devices.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn devices(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Device>, Error> {
        let mut slots = self.slots_of(tenant, user_id).await?;
        self.living(tenant, user_id, &mut slots).await?;
        Ok(slots.into_iter().filter_map(shown).collect())
    }

    async fn slots_of(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<NamedSlot>, Error> {
        let entries = record::entries(&*self.store, tenant, user_id, kind::DEVICE, None).await?;
        entries.into_iter().map(|entry| Ok((entry.key.as_str().into(), Slot::of(Some(&entry))?))).collect()
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
        Ok(shown((device_id.to_owned(), self.slot(tenant, user_id, device_id).await?)))
    }

    /// What stands under a device's id, whose device lives if there is one.
    pub(crate) async fn slot(&self, tenant: TenantId, user_id: &UserId, device_id: &DeviceId) -> Result<Slot, Error> {
        let entry = self.entry(tenant, user_id, (kind::DEVICE, "", device_id.as_str())).await?;
        let mut slots = [(device_id.to_owned(), Slot::of(entry.as_ref())?)];
        self.living(tenant, user_id, &mut slots).await?;
        let [(_, slot)] = slots;
        Ok(slot)
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
        let renamed = self.update(tenant, user_id, (kind::DEVICE, "", device_id.as_str()), None, |entry| {
            let Slot { life, device } = Slot::of(entry.as_ref())?;
            let device = device.ok_or(Error::NoDevice)?;
            if device.display_name == display_name {
                return Ok((false, Vec::new()));
            }
            let slot = Slot { life, device: Some(Stored { display_name: display_name.clone(), ..device }) };
            Ok((true, vec![slot.change(device_id)?, jobs::owe(jobs::LISTS)]))
        });
        if renamed.await? { self.devices_changed(tenant, user_id).await } else { Ok(()) }
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
        let there = self.slots_of(tenant, user_id).await?;
        let mut living = there.clone();
        self.living(tenant, user_id, &mut living).await?;
        let dead = there.into_iter().zip(living);
        let dead = dead.filter(|((_, was), (_, is))| was.device.is_some() && is.device.is_none());
        let dead: Vec<_> = dead.map(|((device_id, slot), _)| (device_id, slot.life)).collect();
        self.end_devices(tenant, user_id, &dead).await
    }

    /// Ends lives of devices, if they haven't ended yet.
    async fn end_devices(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        gone: &[(OwnedDeviceId, u64)],
    ) -> Result<(), Error> {
        let mut changed = false;
        for some in gone.chunks(ROW_DEVICES) {
            if self.end_in_one_row(tenant, user_id, some).await? {
                changed = true;
            } else if some.len() > 1 {
                // Somebody else logs some of them out: those that are left, one by one.
                for one in some.chunks(1) {
                    changed |= self.end_in_one_row(tenant, user_id, one).await?;
                }
            }
        }
        if changed { self.devices_changed(tenant, user_id).await } else { Ok(()) }
    }

    /// Says whether all of them lived, and were ended.
    async fn end_in_one_row(
        &self,
        tenant: TenantId,
        user_id: &UserId,
        gone: &[(OwnedDeviceId, u64)],
    ) -> Result<bool, Error> {
        let (mut changes, mut musts) = (Vec::new(), Vec::new());
        for (device_id, life) in gone {
            let device = DeviceRef { tenant, user_id, device_id, life: *life };
            changes.push(Slot { life: life + 1, device: None }.change(device_id)?);
            changes.extend(goes_with(device));
            musts.push(device.alive());
        }
        changes.push(jobs::owe(jobs::LISTS));
        match self.append(tenant, user_id, changes, musts).await? {
            Ok(_) => Ok(true),
            Err(record::Refused::Exists) => Err(Error::NoAccount),
            Err(_) => Ok(false),
        }
    }

    /// Clears up what stands beside a device that is gone: its inbox, its one-time and fallback keys.
    pub(crate) async fn drop_leftovers(&self, tenant: TenantId, user_id: &UserId, name: &str) -> Result<(), Error> {
        let corrupt = || Error::Internal("a device to clear up after has no name".to_owned());
        let (life, device_id) = name.split_once('/').ok_or_else(corrupt)?;
        let (life, device_id) = (life.parse().map_err(|_| corrupt())?, OwnedDeviceId::from(device_id));
        let device = DeviceRef { tenant, user_id, device_id: &device_id, life };
        self.drop_keys(device).await?;
        self.drop_inbox(device).await
    }
}
