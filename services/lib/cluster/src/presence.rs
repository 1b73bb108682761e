//! Says on the bus that this process is there, and hears who else is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use polity_bus::{Bus, News, SubjectKind, Subscriptions, not_understood};
use tokio::time::MissedTickBehavior;

use crate::{
    Member, heartbeat,
    live::{HEARTBEAT, Live},
};

/// Heartbeats that may wait: those of some hundred processes.
const WAITING: usize = 1024;

/// See the module.
pub struct Presence {
    bus: Arc<dyn Bus>,
    this: Member,
    live: Arc<Live>,
    leaving: AtomicBool,
}

impl Presence {
    /// The presence of `this` process, which tells `live` who else is there.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, this: Member, live: Arc<Live>) -> Arc<Self> {
        Arc::new(Self { bus, this, live, leaving: AtomicBool::new(false) })
    }

    /// Says and hears until it is dropped.
    pub async fn run(&self) {
        let (subscriptions, mut receiver) = self.bus.receiver(WAITING);
        subscriptions.subscribe(heartbeat::SUBJECT);
        Subscriptions::settled(&*subscriptions).await;
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.say(),
                news = receiver.next() => match news {
                    Some(News::Message(message)) => self.hear(&message.payload),
                    Some(News::Lost) => {}
                    None => return,
                },
            }
        }
    }

    /// From now on nobody should ask this process: said at once, and again with each heartbeat.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.say();
    }

    fn say(&self) {
        if let Some(payload) = heartbeat::encode(&self.this, self.leaving.load(Ordering::Acquire)) {
            self.bus.publish(heartbeat::SUBJECT, payload);
        }
    }

    fn hear(&self, payload: &[u8]) {
        match heartbeat::decode(payload) {
            Some((member, leaving)) => self.live.heard(member, leaving),
            None => not_understood(SubjectKind::Heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use polity_bus::LocalBus;
    use polity_core::{IncarnationId, tasks};

    use super::*;
    use crate::kind::ROOM_STATE;

    #[tokio::test(start_paused = true)]
    async fn processes_hear_of_each_other_and_of_their_leaving() {
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let start = |n: u8| {
            let this = Member::new(IncarnationId::new([n; 16]), ROOM_STATE, &n.to_string(), "127.0.0.1:1");
            let live = Live::new(this.incarnation);
            let presence = Presence::new(Arc::clone(&bus), this, Arc::clone(&live));
            let running = Arc::clone(&presence);
            (live, presence, tasks::spawn(async move { running.run().await }))
        };
        let processes = [1, 2, 3].map(start);
        tokio::time::sleep(4 * HEARTBEAT).await;
        let seen = || processes.each_ref().map(|(live, ..)| live.members(ROOM_STATE).len());
        assert_eq!(seen(), [3, 3, 3]);
        processes[0].1.leave();
        tokio::task::yield_now().await;
        tokio::time::sleep(HEARTBEAT / 100).await;
        assert_eq!(seen(), [2, 2, 2], "at once");
        processes[1].2.abort();
        tokio::time::sleep(5 * HEARTBEAT).await;
        assert_eq!(processes[2].0.members(ROOM_STATE).len(), 1, "one that is killed says nothing any more");
    }
}
