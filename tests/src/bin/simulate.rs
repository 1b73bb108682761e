//! Plays seeds of the simulation: `simulate --seeds 2000 --first-seed 1`. The last line has the figures; the exit status is 1 if a seed
//! failed. With the feature `mutations` and `--mutations`: plants one bug after the other, and fails if one isn't found.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use polity_tests::sim::{Counts, Outcome, Scenario, play, restored, shrink};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: simulate [options]
  --seeds N           plays so many seeds (100)
  --first-seed K      from this one on (1)
  --threads T         so many at once (one for each core)
  --restored          plays restores from backups instead
  --tell              tells every history, not only those of seeds that fail
  --whole             doesn't make what fails smaller
  --twice             plays each seed twice: it must give the same
  --log               tells what the processes log, too, and plays one seed at a time
  --mutations [NAME]  plants bugs, all or those whose names begin so, and looks for a seed that finds each; with --tell it tells
                      what that seed played (in a build with the feature `mutations`)";

/// What is asked for.
struct Plan {
    seeds: u64,
    first: u64,
    threads: usize,
    /// Every history is told, not only those of failing seeds.
    tell: bool,
    /// Each seed is played twice, and must give the same.
    twice: bool,
    /// A seed that fails isn't made smaller.
    whole: bool,
    /// What the processes log is told, too.
    log: bool,
    /// Restores from backups are played.
    restored: bool,
    /// Bugs are planted: all, or those of that name.
    mutations: Option<String>,
}

/// What was done.
#[derive(Default)]
struct Figures {
    next: AtomicU64,
    failed: AtomicUsize,
    acknowledged: AtomicUsize,
    simulated_ms: AtomicU64,
    counts: Mutex<Counts>,
}

#[expect(clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    let failed = match plan() {
        Ok(plan) if plan.mutations.is_some() => plant_all(&plan),
        Ok(plan) => Ok(seeds(&plan)),
        Err(wrong) => Err(wrong),
    };
    match failed {
        Ok(failed) => ExitCode::from(u8::from(failed > 0)),
        Err(wrong) if wrong.is_empty() => {
            eprintln!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// Plays the seeds; how many failed.
#[expect(clippy::print_stdout, reason = "a program for people")]
fn seeds(plan: &Plan) -> usize {
    if plan.log {
        let own = Targets::new().with_target("polity", LevelFilter::DEBUG);
        // Times would be those of this machine.
        let lines = tracing_subscriber::fmt::layer().without_time().with_ansi(false);
        tracing_subscriber::registry().with(own).with(lines).init();
    }
    let (figures, began) = (Figures::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                loop {
                    let next = figures.next.fetch_add(1, Ordering::Relaxed);
                    if next >= plan.seeds {
                        break;
                    }
                    if let Some(told) = one(plan.first + next, plan, &figures) {
                        println!("{told}");
                    }
                }
            });
        }
    });
    let counts = figures.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("{}", counts.join(", "));
    let (failed, took) = (figures.failed.into_inner(), began.elapsed().as_secs_f64());
    println!(
        "{} seeds from {}: {failed} failed; {} events acknowledged, {} s simulated, in {took:.1} s: {:.1} seeds a second",
        plan.seeds,
        plan.first,
        figures.acknowledged.into_inner(),
        figures.simulated_ms.into_inner() / 1000,
        f64::from(u32::try_from(plan.seeds).unwrap_or(u32::MAX)) / took,
    );
    failed
}

/// Plays a seed; what there is to tell of it.
fn one(seed: u64, plan: &Plan, figures: &Figures) -> Option<String> {
    let scenario = Scenario::of(seed);
    let play = || -> Outcome { if plan.restored { restored(seed) } else { play(&scenario) } };
    let outcome = play();
    figures.acknowledged.fetch_add(outcome.acknowledged, Ordering::Relaxed);
    figures.simulated_ms.fetch_add(u64::try_from(outcome.took.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    for (what, count) in &outcome.counts {
        *figures.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += count;
    }
    if plan.twice {
        let again = play();
        if again.digest() != outcome.digest() {
            figures.failed.fetch_add(1, Ordering::Relaxed);
            let pairs = outcome.history.iter().zip(&again.history);
            let differs = pairs.enumerate().find(|(_, (one, other))| one != other);
            return Some(format!("seed {seed} was played twice and gave two histories, from {differs:?} on"));
        }
    }
    if outcome.fault.is_some() {
        figures.failed.fetch_add(1, Ordering::Relaxed);
        if plan.restored {
            return Some(failed_restore(seed, outcome));
        }
        return Some(failed(&scenario, outcome, plan.whole));
    }
    plan.tell.then(|| format!("{scenario}  {}", outcome.history.join("\n  ")))
}

/// What there is to tell of a restore that fails: it isn't made smaller.
fn failed_restore(seed: u64, outcome: Outcome) -> String {
    let (history, fault) = (outcome.history.join("\n  "), outcome.fault.unwrap_or_default());
    format!(
        "the restore {seed} fails.\n  {history}\n{fault}\nAgain: simulate --restored --seeds 1 --first-seed {seed}\n"
    )
}

/// What there is to tell of a scenario that fails, of a smaller one too unless it is told whole.
fn failed(scenario: &Scenario, outcome: Outcome, whole: bool) -> String {
    let (seed, fault) = (scenario.seed, outcome.fault.clone().unwrap_or_default());
    let again = format!("Again: simulate --seeds 1 --first-seed {seed}");
    if whole {
        let history = outcome.history.join("\n  ");
        return format!("seed {seed} fails. {scenario}  {history}\n{fault}\n{again} --whole\n");
    }
    let before = outcome.place().unwrap_or_default().to_owned();
    let (smallest, outcome) = shrink(scenario, outcome);
    let (history, fault) = (outcome.history.join("\n  "), outcome.fault.unwrap_or_default());
    format!("seed {seed} fails: {before}\n{scenario}made smaller: {smallest}  {history}\n{fault}\n{again}\n")
}

/// Plants bugs, one after the other; how many weren't found.
#[cfg(feature = "mutations")]
#[expect(clippy::print_stdout, reason = "a program for people")]
fn plant_all(plan: &Plan) -> Result<usize, String> {
    use polity_core::mutation::{ALL, plant};
    use polity_tests::sim::{catch, scenario};
    let name = plan.mutations.as_deref().unwrap_or_default();
    let planted: Vec<_> = ALL.iter().filter(|(bug, _)| format!("{bug:?}").starts_with(name)).collect();
    if planted.is_empty() {
        return Err(format!("no bug is called {name}"));
    }
    let (next, survived, began) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                while let Some((bug, what)) = planted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match catch(*bug, plan.first, plan.seeds) {
                        Ok(Some(caught)) => {
                            let fault: Vec<&str> = caught.fault.lines().take(2).collect();
                            let (seed, how) = (caught.seed, if caught.known { "again" } else { "by a search" });
                            println!("{bug:?} ({what}): found {how} by seed {seed}: {}", fault.join(" "));
                            if plan.tell {
                                plant(Some(*bug));
                                match scenario(*bug, seed) {
                                    None => println!("{}", failed_restore(seed, restored(seed))),
                                    Some(scenario) => println!("{}", failed(&scenario, play(&scenario), plan.whole)),
                                }
                                plant(None);
                            }
                        }
                        Ok(None) => {
                            survived.fetch_add(1, Ordering::Relaxed);
                            println!("{bug:?} ({what}): NOT FOUND by {} seeds", plan.seeds);
                        }
                        Err(wrong) => {
                            survived.fetch_add(1, Ordering::Relaxed);
                            println!("{bug:?} ({what}): {wrong}");
                        }
                    }
                }
            });
        }
    });
    let (survived, took) = (survived.into_inner(), began.elapsed().as_secs_f64());
    println!("{} bugs of {} planted, {survived} not found, in {took:.1} s", planted.len(), ALL.len());
    Ok(survived)
}

#[cfg(not(feature = "mutations"))]
fn plant_all(_: &Plan) -> Result<usize, String> {
    Err("bugs can be planted only in a build with the feature `mutations`".to_owned())
}

fn plan() -> Result<Plan, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (tell, twice, whole, log, restored) = (false, false, false, false, false);
    let mut plan = Plan { seeds: 100, first: 1, threads, tell, twice, whole, log, restored, mutations: None };
    let mut words = std::env::args().skip(1).peekable();
    while let Some(word) = words.next() {
        let mut number = || {
            let given = words.next().ok_or_else(|| format!("{word} wants a number"))?;
            given.parse::<u64>().map_err(|error| format!("{word} {given}: {error}"))
        };
        match word.as_str() {
            "--seeds" => plan.seeds = number()?,
            "--first-seed" => plan.first = number()?,
            "--threads" => plan.threads = usize::try_from(number()?.max(1)).unwrap_or(1),
            "--tell" => plan.tell = true,
            "--twice" => plan.twice = true,
            "--whole" => plan.whole = true,
            "--log" => plan.log = true,
            "--restored" => plan.restored = true,
            "--mutations" => plan.mutations = Some(words.next_if(|word| !word.starts_with("--")).unwrap_or_default()),
            "--help" | "-h" => return Err(String::new()),
            other => return Err(format!("{other} isn't known")),
        }
    }
    if plan.seeds == 0 || plan.first.checked_add(plan.seeds).is_none() {
        return Err("there is no such seed".to_owned());
    }
    if plan.log {
        plan.threads = 1;
    }
    Ok(plan)
}
