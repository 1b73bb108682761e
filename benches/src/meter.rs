//! Measuring a stretch of work: latencies on this side, what was spent on the server's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::LoadError;
use crate::procs::{self, Usage};
use crate::report::Row;
use crate::target::Target;

/// The longest latency told apart, in microseconds (10 minutes).
const LONGEST_US: u64 = 600_000_000;

/// What happened to a number of operations.
#[derive(Debug)]
pub struct Tally {
    latencies: Histogram<u64>,
    /// Operations that failed.
    pub errors: u64,
    /// Operations refused by the server's rate limit.
    pub limited: u64,
    /// The first failure, to be shown.
    pub first_error: Option<String>,
}

impl Tally {
    /// An empty tally.
    ///
    /// # Errors
    /// Never with the bounds used here; the histogram's own check is passed on.
    pub fn new() -> Result<Self, LoadError> {
        let latencies =
            Histogram::new_with_bounds(1, LONGEST_US, 3).map_err(|error| LoadError::Histogram(error.to_string()))?;
        Ok(Self { latencies, errors: 0, limited: 0, first_error: None })
    }

    /// Notes one operation that took `took`; hands its result on.
    pub fn note<T>(&mut self, took: Duration, outcome: Result<T, LoadError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
                self.latencies.saturating_record(micros.max(1));
                return Some(value);
            }
            Err(LoadError::Limited { .. }) => self.limited += 1,
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
        None
    }

    /// Adds another tally.
    ///
    /// # Errors
    /// When the histograms don't fit, which those of [`Tally::new`] do.
    pub fn add(&mut self, other: Self) -> Result<(), LoadError> {
        self.latencies.add(&other.latencies).map_err(|error| LoadError::Histogram(error.to_string()))?;
        self.errors += other.errors;
        self.limited += other.limited;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }

    /// Operations that succeeded.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.latencies.len()
    }

    /// A latency quantile in milliseconds; 0 without operations.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// A measurement under way.
#[derive(Debug)]
pub struct Meter<'a> {
    target: &'a Target,
    began: Instant,
    server: Usage,
    beside: BTreeMap<String, u64>,
    own: Usage,
}

impl<'a> Meter<'a> {
    /// Starts measuring.
    ///
    /// # Errors
    /// When the target's processes can't be read.
    pub fn start(target: &'a Target) -> Result<Self, LoadError> {
        let own = procs::usage(&[std::process::id()])?;
        let (server, beside) = (procs::usage(&target.pids)?, cpu_beside(target)?);
        Ok(Self { target, server, beside, own, began: Instant::now() })
    }

    /// Ends measuring: one row of the report.
    ///
    /// # Errors
    /// When the target's processes can't be read any more.
    pub fn finish(self, scenario: &'static str, detail: String, tally: Tally) -> Result<Row, LoadError> {
        let seconds = self.began.elapsed().as_secs_f64();
        let server = procs::usage(&self.target.pids)?;
        let own = procs::usage(&[std::process::id()])?;
        let ops = tally.done();
        let each = |total: u64| if ops == 0 { 0.0 } else { total as f64 / ops as f64 };
        let spent_beside = cpu_beside(self.target)?
            .into_iter()
            .map(|(name, cpu_ms)| {
                let before = self.beside.get(&name).copied().unwrap_or_default();
                (name, each(cpu_ms.saturating_sub(before)))
            })
            .collect();
        Ok(Row {
            target: self.target.name.clone(),
            scenario,
            detail,
            ops,
            errors: tally.errors,
            limited: tally.limited,
            seconds,
            per_second: if seconds > 0.0 { ops as f64 / seconds } else { 0.0 },
            p50_ms: tally.quantile_ms(0.50),
            p95_ms: tally.quantile_ms(0.95),
            p99_ms: tally.quantile_ms(0.99),
            cpu_ms_per_op: each(server.cpu_ms.saturating_sub(self.server.cpu_ms)),
            beside_cpu_ms_per_op: spent_beside,
            own_cpu_ms_per_op: each(own.cpu_ms.saturating_sub(self.own.cpu_ms)),
            rss_mib: server.rss_kib as f64 / 1024.0,
            rss_delta_kib: server.rss_kib as f64 - self.server.rss_kib as f64,
            written_kib_per_op: each(server.written.saturating_sub(self.server.written)) / 1024.0,
            extra: None,
            first_error: tally.first_error,
        })
    }
}

/// The CPU that each of those beside the server has taken so far, in milliseconds.
fn cpu_beside(target: &Target) -> Result<BTreeMap<String, u64>, LoadError> {
    let mut spent = BTreeMap::new();
    for beside in &target.beside {
        *spent.entry(beside.name.clone()).or_default() += procs::usage(&[beside.pid])?.cpu_ms;
    }
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut tally = Tally::new().unwrap();
        for ms in 1..=100 {
            tally.note(Duration::from_millis(ms), Ok(()));
        }
        for (quantile, expected) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            assert!((tally.quantile_ms(quantile) - expected).abs() < 0.1, "{quantile}");
        }
    }

    #[test]
    fn failures_are_counted_apart_and_added() {
        let mut sum = Tally::new().unwrap();
        let mut other = Tally::new().unwrap();
        other.note::<()>(Duration::ZERO, Err(LoadError::Late("x")));
        other.note::<()>(Duration::ZERO, Err(LoadError::Limited { retry_after_ms: 1 }));
        other.note(Duration::ZERO, Ok(()));
        sum.add(other).unwrap();
        assert_eq!((sum.done(), sum.errors, sum.limited), (1, 1, 1));
        assert_eq!(sum.first_error.as_deref(), Some("timed out: x"));
    }
}
