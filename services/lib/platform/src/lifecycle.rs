//! How a process runs and ends: signals, the tasks it can't live without, the drain and its deadline.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use polity_core::tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Exit codes, as in sysexits.h.
pub mod exit {
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 64;
    /// The store is damaged.
    pub const DAMAGED: u8 = 65;
    /// An address can't be listened on.
    pub const UNAVAILABLE: u8 = 69;
    /// Something of ours failed.
    pub const SOFTWARE: u8 = 70;
    /// The data folder can't be used.
    pub const CANT_CREATE: u8 = 73;
    /// The data folder is in use by another process.
    pub const IN_USE: u8 = 75;
}

/// What a second signal ends the process with, as a shell would report SIGINT.
const IMPATIENT: i32 = 130;

/// The life of a process.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    stop: CancellationToken,
    cut: CancellationToken,
    failed: Arc<AtomicBool>,
    drain: Duration,
}

impl Lifecycle {
    /// A process whose end may take `drain`.
    #[must_use]
    pub fn new(drain: Duration) -> Self {
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        Self { stop, cut, failed: Arc::default(), drain }
    }

    /// Cancelled when the end begins: take nothing new, finish what is under way, let waiting syncs answer.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when the time to finish is over.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// How long the end may take.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.drain
    }

    /// Runs a task without which the process is of no use: when it ends before it was told to, or panics, the process stops.
    pub fn essential(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), Arc::clone(&self.failed));
        tasks::spawn(async move {
            let guard = Essential { name, failed, stop: stop.drop_guard() };
            task.await;
            drop(guard);
        });
    }

    /// From now on SIGTERM and SIGINT begin the end, a second one ends the process at once, and SIGHUP calls `reload`.
    ///
    /// # Errors
    /// When signals can't be listened for.
    pub fn listen(&self, reload: impl Fn() + Send + 'static) -> io::Result<()> {
        stop_on_signals(&self.stop)?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = self.stop.clone();
        tasks::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    signal = hangup.recv() => if signal.is_none() { return },
                }
                reload();
            }
        });
        Ok(())
    }

    /// Waits for the end to begin, then for all tasks, for at most the drain. Whether the end was asked for (and not forced by
    /// a task that failed).
    pub async fn ended(&self) -> bool {
        self.stop.cancelled().await;
        if !tasks::drain(self.drain).await {
            tracing::warn!(tasks = tasks::running(), "tasks are cut: they took longer than the shutdown may");
        }
        self.cut.cancel();
        !self.failed.load(Ordering::Acquire)
    }
}

/// Notes the early end of an essential task, also when it is a panic that ends it. The guard within stops the process.
struct Essential {
    name: &'static str,
    failed: Arc<AtomicBool>,
    stop: DropGuard,
}

impl Drop for Essential {
    fn drop(&mut self) {
        if !self.stop.token().is_cancelled() {
            tracing::error!(task = self.name, "an essential task ended: the process stops");
            self.failed.store(true, Ordering::Release);
        }
    }
}

/// Cancels the token at the first SIGTERM or SIGINT, and ends the process at the second.
fn stop_on_signals(stop: &CancellationToken) -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    // Not one of the tasks that the end waits for.
    #[expect(clippy::disallowed_methods, reason = "shutdown must not wait for the task that starts it")]
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} };
        next().await;
        tracing::info!("stopping: requests under way are answered first");
        stop.cancel();
        next().await;
        std::process::exit(IMPATIENT);
    });
    Ok(())
}

/// Raises the number of files and connections that the process may have open, as far as the system lets it. The new limit.
///
/// # Errors
/// When the system refuses.
pub fn raise_file_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crashed_essential_task_stops_the_process_and_an_orderly_one_does_not() {
        let life = Lifecycle::new(Duration::from_millis(500));
        let stop = life.stop();
        life.essential("orderly", async move { stop.cancelled().await });
        life.stop().cancel();
        assert!(life.ended().await);
        assert!(life.cut().is_cancelled());

        let life = Lifecycle::new(Duration::from_millis(500));
        life.essential("broken", async { panic!("as a test wants it") });
        assert!(!tokio::time::timeout(Duration::from_secs(5), life.ended()).await.unwrap());

        let life = Lifecycle::new(Duration::from_millis(500));
        life.essential("lazy", async {});
        assert!(!tokio::time::timeout(Duration::from_secs(5), life.ended()).await.unwrap());
    }

    #[tokio::test]
    async fn hangup_reloads_and_terminate_stops() {
        let (life, reloaded) = (Lifecycle::new(Duration::from_millis(500)), Arc::new(tokio::sync::Notify::new()));
        let told = Arc::clone(&reloaded);
        life.listen(move || told.notify_one()).unwrap();
        let send = |signal: &str| {
            let own = std::process::id().to_string();
            assert!(std::process::Command::new("kill").args([signal, &own]).status().unwrap().success());
        };
        for _ in 0..2 {
            send("-HUP");
            tokio::time::timeout(Duration::from_secs(5), reloaded.notified()).await.unwrap();
        }
        assert!(!life.stop().is_cancelled());
        send("-TERM");
        tokio::time::timeout(Duration::from_secs(5), life.stop().cancelled()).await.unwrap();
    }

    #[test]
    fn the_file_limit_is_not_lowered() {
        assert!(raise_file_limit().unwrap() >= 256);
    }
}
