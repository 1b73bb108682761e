//! The bus as a process reaches it: it loses, delays, repeats and reorders messages.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use polity_bus::{Bus, LocalBus, Receiver, Subject, Subscriptions};
use tokio::time::Instant;

use super::{chance::Chance, detached, later, nap, weather::Weather};

/// What all processes are on.
pub(super) struct Exchange {
    weather: Arc<Weather>,
    chance: Chance,
    /// Who hears, by the name of the process; and on which node.
    heard_by: Mutex<BTreeMap<String, (usize, Arc<LocalBus>)>>,
}

/// See the module.
pub(super) struct SimBus {
    exchange: Arc<Exchange>,
    node: usize,
    /// Its process is of the next version.
    next: bool,
    began: Instant,
    own: Arc<LocalBus>,
}

impl Exchange {
    pub(super) fn new(weather: Arc<Weather>, chance: Chance) -> Arc<Self> {
        Arc::new(Self { weather, chance, heard_by: Mutex::default() })
    }

    /// The bus of a process of that name, which begins now.
    pub(super) fn join(self: &Arc<Self>, name: &str, node: usize, next: bool) -> SimBus {
        let own = Arc::new(LocalBus::new());
        self.heard_by.lock().insert(name.to_owned(), (node, Arc::clone(&own)));
        SimBus { exchange: Arc::clone(self), node, next, began: Instant::now(), own }
    }

    pub(super) fn leave(&self, name: &str) {
        self.heard_by.lock().remove(name);
    }

    fn carry(&self, to: &Arc<LocalBus>, subject: Subject, payload: &Bytes) {
        let (most, loses, repeats) = self.weather.now(|now| (now.bus_ms, now.bus_loses, now.bus_repeats));
        let times = 1 + u64::from(self.chance.per_mille(repeats));
        for _ in 0..times {
            self.weather.count("bus messages");
            if self.chance.per_mille(loses) {
                self.weather.count("bus messages lost");
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

impl SimBus {
    fn send(&self, subject: Subject, payload: &Bytes) {
        let exchange = &self.exchange;
        let (deaf, heard) = exchange.weather.now(|now| {
            let unheard = Duration::from_millis(now.unheard_ms);
            (now.deaf.clone(), !now.mute.contains(&self.node) && self.began.elapsed() >= unheard)
        });
        let heard_by: Vec<(usize, Arc<LocalBus>)> = exchange.heard_by.lock().values().cloned().collect();
        for (node, to) in &heard_by {
            if heard && !deaf.contains(node) {
                exchange.carry(to, subject, payload);
            } else {
                exchange.weather.count("bus messages unheard");
            }
        }
    }
}

impl Bus for SimBus {
    fn publish(&self, subject: Subject, payload: Bytes) {
        if !self.next {
            return self.send(subject, &payload);
        }
        self.exchange.weather.count("bus messages of the next version");
        self.send(subject, &later::unknown_message());
        self.send(subject, &later::message(subject.kind, &payload));
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        self.own.receiver(capacity)
    }
}
