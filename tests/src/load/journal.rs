//! What happened, in order, for whoever must find out why.

use std::{
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

/// Lines of an excerpt, at most.
const EXCERPT: usize = 200;

/// All that the actors did and heard, and every kill.
pub struct Journal {
    seed: u64,
    began: Instant,
    lines: Mutex<Vec<String>>,
    /// Nothing goes wrong, from the beginning to the end.
    calm: AtomicBool,
}

impl Journal {
    /// Nothing happened yet. The seed is told with every fault.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, began: Instant::now(), lines: Mutex::default(), calm: AtomicBool::new(false) }
    }

    /// Says that nothing goes wrong.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether nothing goes wrong.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// What everything random comes from.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what somebody did or heard.
    pub fn note(&self, who: &str, what: impl Display) {
        let line = format!("{:>9.3} s  {who}: {what}", self.began.elapsed().as_secs_f64());
        self.lines().push(line);
    }

    /// All lines.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lines().clone()
    }

    /// Ends the test: what is wrong, the seed, and all lines that mention one of these, with the kills between them.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn fail(&self, fault: impl Display, about: &[&str]) -> ! {
        let excerpt = self.about(about);
        panic!("{fault}\n  POLITY_SEED={}\n  what happened to {}:\n{excerpt}", self.seed, about.join(", "));
    }

    /// Ends the test unless it holds.
    ///
    /// # Panics
    /// Unless it holds.
    #[track_caller]
    pub fn check(&self, holds: bool, fault: impl Display, about: &[&str]) {
        if !holds {
            self.fail(fault, about);
        }
    }

    fn about(&self, needles: &[&str]) -> String {
        let (mut out, mut kill) = (Vec::new(), None);
        for line in self.lines().iter() {
            if line.contains("s  kill: ") {
                kill = Some(line.clone());
            } else if needles.iter().any(|needle| line.contains(needle)) {
                out.extend(kill.take());
                out.push(line.clone());
            }
        }
        out.extend(kill);
        out.drain(..out.len().saturating_sub(EXCERPT));
        out.join("\n")
    }
}
