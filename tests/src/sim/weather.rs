//! What misbehaves at the moment, for everybody who is between two processes; and how often what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::scenario::Fault;
use crate::load::Journal;

/// How often, of a thousand times, and how long, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Every operation of the store takes up to so long, there and back.
    pub(super) store_ms: u64,
    /// Reads of logs take up to so much longer, there and back.
    pub(super) log_reads_ms: u64,
    /// Operations that the store refuses: nothing is written.
    pub(super) store_refuses: u64,
    /// Writes that land, or do in part, and aren't answered.
    pub(super) store_unanswered: u64,
    /// Writes that aren't answered, and land much later or never.
    pub(super) store_late: u64,
    /// Conditional writes that aren't answered, and of which a part is seen before the whole.
    pub(super) store_torn: u64,
    /// Whoever waits for a conditional write that is late dies; or all do.
    pub(super) dies_waiting: bool,
    pub(super) all_die_waiting: bool,
    /// Messages of the bus take up to so long.
    pub(super) bus_ms: u64,
    pub(super) bus_loses: u64,
    pub(super) bus_repeats: u64,
    /// What a process says in so many milliseconds after it began nobody hears.
    pub(super) unheard_ms: u64,
    /// Nodes that hear nothing on the bus, and such that nobody hears.
    pub(super) deaf: BTreeSet<usize>,
    pub(super) mute: BTreeSet<usize>,
    /// Calls between processes take up to so long, there and back.
    pub(super) calls_ms: u64,
    /// Answers that clients don't get.
    pub(super) answers_lost: u64,
    /// Nodes that don't reach each other; the lower number first.
    pub(super) apart: BTreeSet<(usize, usize)>,
}

/// See the module.
pub(super) struct Weather {
    /// What happened, in order.
    journal: Arc<Journal>,
    now: Mutex<(Vec<Fault>, Conditions)>,
    counts: Mutex<Counts>,
    /// What must never happen, and did.
    wrong: Mutex<Vec<String>>,
    /// Something went wrong beside the bus.
    worse: AtomicBool,
    /// Somebody waits for a write with whom all are to die.
    pub(super) dooms: Notify,
    /// Writes that are late and not there yet.
    coming: watch::Sender<usize>,
}

/// A write that is late, until it is there.
pub(super) struct Coming(watch::Sender<usize>);

/// How often each thing happened.
pub type Counts = BTreeMap<&'static str, u64>;

impl Conditions {
    fn under(faults: &[Fault]) -> Self {
        let mut now = Self { store_ms: 2, bus_ms: 2, calls_ms: 2, ..Self::default() };
        faults.iter().for_each(|fault| fault.change(&mut now));
        now
    }
}

impl Weather {
    /// Good weather.
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            now: Mutex::new((Vec::new(), Conditions::under(&[]))),
            counts: Mutex::default(),
            wrong: Mutex::default(),
            worse: AtomicBool::new(false),
            dooms: Notify::new(),
            coming: watch::Sender::new(0),
        }
    }

    /// The same, of which nobody is told.
    pub(super) fn untold() -> Self {
        Self::new(Arc::new(Journal::new(0)))
    }

    /// Notes what a process does, or what becomes of it.
    pub(super) fn note(&self, process: &str, what: impl Display) {
        self.journal.note(process, what);
    }

    /// It happened once more.
    pub(super) fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    /// How often what happened so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// This must never happen.
    pub(super) fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    /// What happened that must never.
    pub(super) fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }

    /// A process was closed by another one, and lives. The bus alone is no reason.
    pub(super) fn closed(&self, process: &str) {
        self.count("processes closed alive");
        self.note(process, "is closed, and lives");
        if self.is_good_but_for_the_bus() {
            self.wrong(format!("{process} was closed, and nothing ever went wrong but the bus"));
        }
    }

    /// Whether nothing ever went wrong but the bus.
    pub(super) fn is_good_but_for_the_bus(&self) -> bool {
        !self.worse.load(Ordering::Relaxed)
    }

    /// A write is late.
    pub(super) fn coming(&self) -> Coming {
        self.coming.send_modify(|coming| *coming += 1);
        Coming(self.coming.clone())
    }

    /// Waits until all are there that were late.
    pub(super) async fn all_have_come(&self) {
        // The sender is this one.
        let _ = self.coming.subscribe().wait_for(|coming| *coming == 0).await;
    }

    /// Looks at the conditions.
    pub(super) fn now<T>(&self, look: impl FnOnce(&Conditions) -> T) -> T {
        look(&self.now.lock().1)
    }

    /// From now on there is this, too.
    pub(super) fn begin(&self, fault: Fault) {
        self.worse.fetch_or(!fault.is_of_the_bus(), Ordering::Relaxed);
        let mut now = self.now.lock();
        now.0.push(fault);
        now.1 = Conditions::under(&now.0);
    }

    /// And no longer.
    pub(super) fn end(&self, fault: &Fault) {
        let mut now = self.now.lock();
        if let Some(at) = now.0.iter().position(|other| other == fault) {
            now.0.remove(at);
        }
        now.1 = Conditions::under(&now.0);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.send_modify(|coming| *coming -= 1);
    }
}
