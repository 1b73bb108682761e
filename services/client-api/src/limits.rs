//! How often clients may ask: a bucket per user for what makes events, a bucket per address for what makes sessions.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#rate-limiting>

use std::net::IpAddr;

use polity_core::TenantId;
use polity_platform::{
    config::RateLimits,
    rate_limit::{Quota, RateLimiter},
};

use crate::{Api, ApiError, auth::Requester};

/// Buckets that are remembered of each kind, at some 40 bytes each.
const REMEMBERED: usize = 100_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// An event, by its sender.
    Message,
    /// A request that leaves messages in devices' inboxes, by its sender: counted like events, and apart from them.
    ToDevice,
    /// A value of one's own account data, by the user: counted like events, and apart from them.
    AccountData,
    /// A field of one's own profile, which all of the user's rooms are told of: counted like events, and apart from them.
    Profile,
    /// A room made or joined, by the user.
    Join,
    /// A user invited, by who invites.
    Invite,
    /// A login, by address.
    Login,
    /// A registration, by address.
    Registration,
}

/// The buckets. Without a limiter there is no limit.
#[derive(Debug)]
pub struct Limits {
    messages: Option<RateLimiter>,
    to_device: Option<RateLimiter>,
    account_data: Option<RateLimiter>,
    profiles: Option<RateLimiter>,
    joins: Option<RateLimiter>,
    invites: Option<RateLimiter>,
    logins: Option<RateLimiter>,
    registrations: Option<RateLimiter>,
}

impl Limits {
    /// The limits of a configuration.
    #[must_use]
    pub fn new(config: &RateLimits) -> Self {
        let limiter = |quota: Option<Quota>| quota.map(|quota| RateLimiter::new(quota, REMEMBERED));
        Self {
            messages: limiter(config.messages()),
            to_device: limiter(config.messages()),
            account_data: limiter(config.messages()),
            profiles: limiter(config.messages()),
            joins: limiter(config.joins()),
            invites: limiter(config.invites()),
            logins: limiter(config.logins()),
            registrations: limiter(config.registrations()),
        }
    }

    fn of(&self, what: Counted) -> Option<&RateLimiter> {
        match what {
            Counted::Message => self.messages.as_ref(),
            Counted::ToDevice => self.to_device.as_ref(),
            Counted::AccountData => self.account_data.as_ref(),
            Counted::Profile => self.profiles.as_ref(),
            Counted::Join => self.joins.as_ref(),
            Counted::Invite => self.invites.as_ref(),
            Counted::Login => self.logins.as_ref(),
            Counted::Registration => self.registrations.as_ref(),
        }
    }
}

impl Api {
    /// Counts what a user does; refused with the time to wait when it is too often.
    pub(crate) fn count(&self, requester: &Requester, what: Counted) -> Result<(), ApiError> {
        let Some(limiter) = self.limits.of(what) else { return Ok(()) };
        let key = (requester.tenant, requester.user_id.as_str());
        limiter.check(key, self.clock.monotonic()).map_err(|limited| ApiError::limit_exceeded(limited.retry_after))
    }

    /// Counts what an address does before anybody is logged in. Of an IPv6 address the network counts: who has one has all of it.
    pub(crate) fn count_address(&self, tenant: TenantId, address: IpAddr, what: Counted) -> Result<(), ApiError> {
        let Some(limiter) = self.limits.of(what) else { return Ok(()) };
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        let checked = limiter.check((tenant, network), self.clock.monotonic());
        checked.map_err(|limited| ApiError::limit_exceeded(limited.retry_after))
    }
}
