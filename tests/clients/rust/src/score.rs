//! What the steps of the scenario stand on: counting, comparing, and waiting with a bound.

use std::{
    error::Error,
    fmt::Debug,
    time::{Duration, Instant},
};

const STEP_TIMEOUT: Duration = Duration::from_secs(60);
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What the server, or the client on it, did otherwise than the scenario says.
pub type Wrong = Box<dyn Error + Send + Sync>;
pub type Result<T = (), E = Wrong> = std::result::Result<T, E>;

/// The steps passed so far.
#[derive(Default)]
pub struct Score {
    passed: u32,
}

impl Score {
    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// Runs one step and prints its line.
    pub async fn step<T>(&mut self, name: &str, run: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let ended = tokio::time::timeout(STEP_TIMEOUT, run).await;
        let result = ended.unwrap_or_else(|_| Err(format!("the step has not ended after {STEP_TIMEOUT:?}").into()));
        let value = result.map_err(|wrong| format!("{name}: {wrong}"))?;
        self.passed += 1;
        println!("ok   {name} ({} ms)", started.elapsed().as_millis());
        Ok(value)
    }
}

/// Wrong unless the condition holds.
pub fn check(condition: bool, message: impl FnOnce() -> String) -> Result {
    if condition { Ok(()) } else { Err(message().into()) }
}

/// Wrong unless both are equal, and shows both.
pub fn same<T: PartialEq<U> + Debug, U: Debug>(actual: T, expected: U, what: &str) -> Result {
    check(actual == expected, || format!("{what}: got {actual:?}, expected {expected:?}"))
}

/// Polls until the probe finds something, and returns it.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        check(Instant::now() < deadline, || format!("waited {WAIT_TIMEOUT:?} for {what}"))?;
        tokio::time::sleep(POLL).await;
    }
}

/// Polls until the condition holds.
pub async fn until_true(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result {
    until(what, async || Ok(condition()?.then_some(()))).await
}

/// The numbered bodies of one burst of messages.
pub fn bodies(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix} {number}")).collect()
}
