//! Plays a scenario from its beginning to its end, on one thread, in simulated time.

use std::{
    cell::RefCell,
    panic,
    sync::{Arc, Once},
    time::Duration,
};

use tokio::task::JoinError;

use super::{
    SERVER,
    beginning::Beginning,
    cluster::Cluster,
    detached, nap, purge,
    scenario::Scenario,
    settled,
    way::SimWay,
    weather::{Counts, Weather},
};
use crate::{
    Client, Way,
    load::{Journal, Load},
};

/// Simulated time after which a scenario counts as hanging.
const LIMIT: Duration = Duration::from_secs(600);

thread_local! {
    /// Panics on this thread since the scenario began.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What became of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong; `None`: every promise was kept.
    pub fault: Option<String>,
    /// What everybody did and heard, a line each.
    pub history: Vec<String>,
    /// How many events were acknowledged.
    pub acknowledged: usize,
    /// How much simulated time it took.
    pub took: Duration,
    /// How often what happened.
    pub counts: Counts,
}

impl Outcome {
    /// Where the check stands that failed: two faults of one place are the same one, most likely.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.fault.as_deref().and_then(|fault| fault.lines().next())
    }

    /// A number for the history: two runs with the same one were the same.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for line in &self.history {
            hasher.update(line.as_bytes()).update(b"\n");
        }
        hasher.update(format!("{:?}", self.fault).as_bytes());
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// Plays a scenario. The same one gives the same each time.
///
/// # Panics
/// When the system has no more room for a runtime.
#[must_use]
pub fn play(scenario: &Scenario) -> Outcome {
    let beginning = Beginning::get(scenario.long);
    let scenario = scenario.clone();
    played(scenario.seed, |journal, weather| acts(scenario, beginning, journal, weather))
}

/// Plays something to its end: how many events were acknowledged.
pub(super) fn played<F>(seed: u64, acts: impl FnOnce(Arc<Journal>, Arc<Weather>) -> F) -> Outcome
where
    F: Future<Output = usize> + Send + 'static,
{
    hear_panics();
    PANICS.take();
    let outcome = simulated(whole(seed, acts));
    // Whoever found a fault ended so: it is told with its place. Any other panic is a fault itself.
    let mut panics = PANICS.take();
    let own = panics.iter().position(|panic| outcome.fault.as_ref().is_some_and(|fault| panic.contains(fault)));
    let placed = if panics.is_empty() { None } else { Some(panics.swap_remove(own.unwrap_or(0))) };
    Outcome { fault: placed.or(outcome.fault), ..outcome }
}

/// Runs something on one thread, in simulated time.
pub(super) fn simulated<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Panics are told in the outcome, and nowhere else.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let simulated = tokio::runtime::Handle::try_current().is_ok() && PLAYS.with_borrow(|plays| *plays);
            if simulated {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

thread_local! {
    /// Whether a scenario is played on this thread.
    static PLAYS: RefCell<bool> = const { RefCell::new(false) };
}

async fn whole<F>(seed: u64, acts: impl FnOnce(Arc<Journal>, Arc<Weather>) -> F) -> Outcome
where
    F: Future<Output = usize> + Send + 'static,
{
    PLAYS.set(true);
    let began = tokio::time::Instant::now();
    let journal = Arc::new(Journal::new(seed));
    let weather = Arc::new(Weather::new(Arc::clone(&journal)));
    let playing = detached(acts(Arc::clone(&journal), Arc::clone(&weather)));
    let (fault, acknowledged) = match tokio::time::timeout(LIMIT, playing).await {
        Ok(Ok(acknowledged)) => (None, acknowledged),
        Ok(Err(error)) => (Some(told(error)), 0),
        Err(_) => (Some("it hangs".to_owned()), 0),
    };
    PLAYS.set(false);
    Outcome { fault, history: journal.all(), acknowledged, took: began.elapsed(), counts: weather.counts() }
}

fn told(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was ended".to_owned() };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Everybody is set to work, things go wrong, all is well again, and what was promised must be there.
async fn acts(
    scenario: Scenario,
    beginning: &'static Beginning,
    journal: Arc<Journal>,
    weather: Arc<Weather>,
) -> usize {
    if scenario.faults.is_empty() {
        journal.calm();
    }
    let cluster = Cluster::start(&scenario, (beginning.store(), weather), 0).await;
    let way: Arc<dyn Way> = Arc::new(SimWay::new(Arc::clone(&cluster), scenario.seed));
    let residents = beginning.residents(&way);
    let purge = scenario.purge_ms.map(|at_ms| {
        let operator = purge::Operator::new(&cluster, &journal, beginning, scenario.seed);
        detached(operator.purge(at_ms))
    });
    let mut load = Load::of(Client::over(way, "").for_host(SERVER), residents, Arc::clone(&journal), scenario.mix);
    let faults: Vec<_> = scenario
        .faults
        .into_iter()
        .map(|planned| {
            let (cluster, journal) = (Arc::clone(&cluster), Arc::clone(&journal));
            detached(async move {
                nap(planned.at_ms).await;
                journal.note("kill", format!("{:?} for {} ms", planned.fault, planned.for_ms));
                cluster.suffer(&planned).await;
                journal.note("kill", format!("{:?} is over", planned.fault));
            })
        })
        .collect();
    nap(scenario.load_ms).await;
    for fault in faults {
        fault.await.expect("nothing ends it");
    }
    cluster.recover().await;
    let purged = match purge {
        Some(purge) => Some(purge.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))),
        None => None,
    };
    let acknowledged = load.acknowledged().await;
    load.finish().await;
    settled::check(&cluster, &journal, &load).await;
    if let Some(purged) = purged {
        purged.check(&cluster, &journal).await;
    }
    acknowledged
}
