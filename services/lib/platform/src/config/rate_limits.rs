//! How often clients may ask.

use super::settings::{Check, Fault, section};
use crate::rate_limit::Quota;

section! {
    /// How often clients may ask.
    pub struct RateLimits {
        /// Whether clients that ask too often are told to wait.
        enabled: bool = true;
        /// Events that a user may send a second, in the long run. Counted apart, as many each: sends to devices, account data, profiles.
        messages_per_s: f64 = 10.0;
        /// Events that a user may send at once; as many of each of the others.
        messages_burst: u32 = 100;
        /// Rooms that a user may join or make a second, in the long run.
        joins_per_s: f64 = 1.0;
        /// Rooms that a user may join or make at once.
        joins_burst: u32 = 50;
        /// Invitations that a user may send a second, in the long run.
        invites_per_s: f64 = 1.0;
        /// Invitations that a user may send at once.
        invites_burst: u32 = 50;
        /// Logins from one address a second, in the long run.
        logins_per_s: f64 = 0.5;
        /// Logins from one address at once.
        logins_burst: u32 = 20;
        /// Registrations from one address a second, in the long run.
        registrations_per_s: f64 = 0.2;
        /// Registrations from one address at once.
        registrations_burst: u32 = 10;
    }
}

impl RateLimits {
    fn all(&self) -> [(&'static str, f64, &'static str, u32); 5] {
        [
            ("messages_per_s", self.messages_per_s, "messages_burst", self.messages_burst),
            ("joins_per_s", self.joins_per_s, "joins_burst", self.joins_burst),
            ("invites_per_s", self.invites_per_s, "invites_burst", self.invites_burst),
            ("logins_per_s", self.logins_per_s, "logins_burst", self.logins_burst),
            ("registrations_per_s", self.registrations_per_s, "registrations_burst", self.registrations_burst),
        ]
    }

    fn quota(&self, per_s: f64, burst: u32) -> Option<Quota> {
        self.enabled.then(|| Quota::new(per_s, burst)).flatten()
    }

    /// Events per user; none: no limit.
    #[must_use]
    pub fn messages(&self) -> Option<Quota> {
        self.quota(self.messages_per_s, self.messages_burst)
    }

    /// Joins per user; none: no limit.
    #[must_use]
    pub fn joins(&self) -> Option<Quota> {
        self.quota(self.joins_per_s, self.joins_burst)
    }

    /// Invitations per user; none: no limit.
    #[must_use]
    pub fn invites(&self) -> Option<Quota> {
        self.quota(self.invites_per_s, self.invites_burst)
    }

    /// Logins per address; none: no limit.
    #[must_use]
    pub fn logins(&self) -> Option<Quota> {
        self.quota(self.logins_per_s, self.logins_burst)
    }

    /// Registrations per address; none: no limit.
    #[must_use]
    pub fn registrations(&self) -> Option<Quota> {
        self.quota(self.registrations_per_s, self.registrations_burst)
    }
}

impl Check for RateLimits {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (rate_key, rate, burst_key, burst) in self.all() {
            if !rate.is_finite() || !(0.000_1..=1_000_000.0).contains(&rate) {
                faults.push((rate_key, format!("{rate} is not between 0.0001 and 1000000")));
            }
            if burst == 0 {
                faults.push((burst_key, "0 would refuse everything".to_owned()));
            }
        }
        faults
    }
}
