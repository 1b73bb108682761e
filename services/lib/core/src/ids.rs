//! Identifiers of our own. Matrix identifiers are ruma's.

use std::{fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

/// A text that isn't the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidId(&'static str);

/// A tenant: one server name with its keys, rooms and users. Leads every key. Random, so that two clusters can merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantId(u64);

impl TenantId {
    /// The tenant with this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The bits as a CQL `bigint`.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Reads the id from its 16 bytes.
            ///
            /// # Errors
            /// When there aren't exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
                bytes.try_into().map(Self).map_err(|_| InvalidId($what))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }
    };
}

id16!(
    /// A log: a room's events, a user's record, a device's inbox, a tenant's device-list changes.
    LogId,
    "log id"
);
id16!(
    /// One run of one process; or one life of a store, which ends with a restore from backup.
    IncarnationId,
    "incarnation id"
);

impl LogId {
    /// The id of a log that exists once per name for ever (a user's record, a tenant's device lists).
    #[must_use]
    pub fn derived(tenant: TenantId, use_: &str, name: &str) -> Self {
        // The context is hashed once for all of them.
        static CONTEXT: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key("polity log id v1"));
        let mut hasher = CONTEXT.clone();
        for part in [&tenant.get().to_be_bytes()[..], use_.as_bytes(), name.as_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        Self(out)
    }
}

/// Which life of a room (or inbox) a log is: raised by a purge and rejoin, an import, a device made again. 10 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life(u16);

impl Life {
    /// The first life.
    pub const FIRST: Self = Self(1);
    /// The last one: a name can't be used again after 1,023 lives.
    pub const MAX: Self = Self(1023);

    /// The life with this number.
    ///
    /// # Errors
    /// Above [`Life::MAX`].
    pub fn new(life: u16) -> Result<Self, InvalidId> {
        if life > Self::MAX.0 { Err(InvalidId("life")) } else { Ok(Self(life)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The next life, if there is one left.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1).ok()
    }
}

/// The epoch of a log: raised by every fence. Who writes under an older one can never land.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(i64);

impl Epoch {
    /// The first epoch.
    pub const FIRST: Self = Self(1);
    /// No epoch at all: the log was sealed, nobody appends to it or fences it ever again.
    pub const SEALED: Self = Self(-1);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(epoch: i64) -> Self {
        Self(epoch)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The epoch after a fence.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether this is the mark of a sealed log.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        self.0 == Self::SEALED.0
    }
}

/// A log within a tenant, and which life of its name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogKey {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The log.
    pub log: LogId,
    /// The life of the name that it is.
    pub life: Life,
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.log, self.life.get())
    }
}
