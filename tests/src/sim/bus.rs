//! The bus as a process reaches it: it loses, delays, repeats and reorders messages.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use polity_bus::{Bus, LocalBus, Receiver, Subject, Subscriptions};

use super::{chance::Chance, detached, nap, weather::Weather};

/// What all processes are on.
pub(super) struct Exchange {
    weather: Arc<Weather>,
    chance: Chance,
    /// Who hears, by the name of the process.
    heard_by: Mutex<BTreeMap<String, Arc<LocalBus>>>,
}

/// See the module.
pub(super) struct SimBus {
    exchange: Arc<Exchange>,
    own: Arc<LocalBus>,
}

impl Exchange {
    pub(super) fn new(weather: Arc<Weather>, chance: Chance) -> Arc<Self> {
        Arc::new(Self { weather, chance, heard_by: Mutex::default() })
    }

    /// The bus of a process of that name.
    pub(super) fn join(self: &Arc<Self>, name: &str) -> SimBus {
        let own = Arc::new(LocalBus::new());
        self.heard_by.lock().insert(name.to_owned(), Arc::clone(&own));
        SimBus { exchange: Arc::clone(self), own }
    }

    pub(super) fn leave(&self, name: &str) {
        self.heard_by.lock().remove(name);
    }

    fn carry(&self, to: &Arc<LocalBus>, subject: Subject, payload: &Bytes) {
        let (most, loses, repeats) = self.weather.now(|now| (now.bus_ms, now.bus_loses, now.bus_repeats));
        let times = 1 + u64::from(self.chance.per_mille(repeats));
        for _ in 0..times {
            if self.chance.per_mille(loses) {
                continue;
            }
            match self.chance.between(0, most) {
                0 => to.publish(subject, payload.clone()),
                ms => {
                    let (to, payload) = (Arc::clone(to), payload.clone());
                    detached(async move {
                        nap(ms).await;
                        to.publish(subject, payload);
                    });
                }
            }
        }
    }
}

impl Bus for SimBus {
    fn publish(&self, subject: Subject, payload: Bytes) {
        let heard_by: Vec<Arc<LocalBus>> = self.exchange.heard_by.lock().values().cloned().collect();
        for to in &heard_by {
            self.exchange.carry(to, subject, &payload);
        }
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        self.own.receiver(capacity)
    }
}
