//! Where devices stand in the record: on a few shelves, by a hash of their ids. An entry of the record can't be taken away, only set
//! anew; so entries are named by shelves and places on them, which are used again, and never by ids, which clients make up at each
//! login. A record stays as large as its living devices make it.

use ruma_common::{DeviceId, OwnedDeviceId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Change, Entry, Error, record::kind, token::Tokens};

/// Shelves of a user.
const SHELVES: u8 = 32;
/// Devices on one shelf: twice as many as there would be if a user with as many devices as allowed had chosen ids by chance.
const PLACES: u64 = 64;

/// One shelf.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Shelf {
    /// How many lives began on it.
    lives: u64,
    standing: Vec<Standing>,
}

/// A device, or what is left of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Standing {
    device_id: OwnedDeviceId,
    life: u64,
    /// None: its life has ended, and its inbox and keys are still there.
    device: Option<Stored>,
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

/// A device that lives, and which one it is.
#[derive(Debug, Clone)]
pub(crate) struct Living {
    pub(crate) device_id: OwnedDeviceId,
    pub(crate) life: u64,
    pub(crate) stored: Stored,
}

/// What stands at a device's place, in an entry of its own: whose it is can be told from what an earlier life left there.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfLife<T> {
    life: u64,
    what: T,
}

/// The key of a device's shelf.
pub(crate) fn key(device_id: &DeviceId) -> String {
    format!("{:02x}", blake3::hash(device_id.as_bytes()).as_bytes()[0] % SHELVES)
}

/// The key of what belongs to one life of a device: no other has it before that one is cleared up.
pub(crate) fn place(device_id: &DeviceId, life: u64) -> String {
    format!("{}.{:02x}", key(device_id), life % PLACES)
}

/// Which of the lives on its shelf it is.
pub(crate) fn ordinal(life: u64) -> u64 {
    life / PLACES
}

/// What an entry at a place says about a life.
pub(crate) fn of_life<T: Default + DeserializeOwned>(entry: Option<&Entry>, life: u64) -> Result<T, Error> {
    let found: Option<OfLife<T>> = entry.map(Entry::decode).transpose()?.flatten();
    Ok(found.filter(|found| found.life == life).map(|found| found.what).unwrap_or_default())
}

/// The entry at a place that says this about a life.
pub(crate) fn set_of_life<T: Serialize>(kind: &str, place: &str, life: u64, what: &T) -> Result<Change, Error> {
    Change::set(kind, "", place, &OfLife { life, what })
}

// === impl Shelf ===

impl Shelf {
    /// What an entry says; none: never used.
    pub(crate) fn of(entry: Option<&Entry>) -> Result<Self, Error> {
        Ok(entry.map(Entry::decode).transpose()?.flatten().unwrap_or_default())
    }

    /// Whether an entry's value says that this life of a device goes on.
    pub(crate) fn lives(value: &[u8], device_id: &str, life: u64) -> bool {
        let shelf = postcard::from_bytes::<Self>(value).unwrap_or_default();
        let found = |standing: &Standing| standing.device_id == device_id && standing.life == life;
        shelf.standing.iter().any(|standing| standing.device.is_some() && found(standing))
    }

    /// The entry that says so.
    pub(crate) fn change(&self, key: &str) -> Result<Change, Error> {
        Change::set(kind::DEVICE, "", key, self)
    }

    /// The devices that live.
    pub(crate) fn living(self) -> impl Iterator<Item = Living> {
        let living = |Standing { device_id, life, device }| Some(Living { device_id, life, stored: device? });
        self.standing.into_iter().filter_map(living)
    }

    /// A device of this id that lives.
    pub(crate) fn device(&self, device_id: &DeviceId) -> Option<(u64, &Stored)> {
        let mut lives = self.standing.iter().filter(|standing| standing.device_id == device_id);
        lives.find_map(|standing| Some((standing.life, standing.device.as_ref()?)))
    }

    /// Lives that ended, and are to be cleared up.
    pub(crate) fn ended(&self) -> Vec<(OwnedDeviceId, u64)> {
        let ended = self.standing.iter().filter(|standing| standing.device.is_none());
        ended.map(|standing| (standing.device_id.clone(), standing.life)).collect()
    }

    /// Sets the device of this id, which begins a life if it has none; `None`: the shelf is full.
    pub(crate) fn set(&mut self, device_id: &DeviceId, stored: Stored) -> Option<u64> {
        let mut living = self.standing.iter_mut().filter(|standing| standing.device.is_some());
        if let Some(there) = living.find(|standing| standing.device_id == device_id) {
            there.device = Some(stored);
            return Some(there.life);
        }
        let taken = |place: &u64| self.standing.iter().any(|standing| standing.life % PLACES == *place);
        let place = (0..PLACES).find(|place| !taken(place))?;
        let life = self.lives * PLACES + place;
        self.lives += 1;
        self.standing.push(Standing { device_id: device_id.to_owned(), life, device: Some(stored) });
        Some(life)
    }

    /// Ends a life; its place isn't free yet.
    pub(crate) fn end(&mut self, device_id: &DeviceId, life: u64) {
        let mut found = self.standing.iter_mut();
        if let Some(there) = found.find(|standing| standing.device_id == device_id && standing.life == life) {
            there.device = None;
        }
    }

    /// Frees the places of lives that were cleared up, if that wasn't done before: what stood there goes in the same row.
    pub(crate) fn release(&mut self, cleared: &[(OwnedDeviceId, u64)]) -> Vec<Change> {
        let is_cleared = |standing: &mut Standing| {
            let named =
                |(device_id, life): &(OwnedDeviceId, u64)| standing.device_id == *device_id && standing.life == *life;
            standing.device.is_none() && cleared.iter().any(named)
        };
        let gone = |Standing { device_id, life, .. }: Standing| {
            let place = place(&device_id, life);
            [kind::ONE_TIME, kind::FALLBACK].map(|kind| Change::new(kind, "", &place, None))
        };
        self.standing.extract_if(.., is_cleared).flat_map(gone).collect()
    }
}
