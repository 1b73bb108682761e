//! How a process ends: SIGTERM and SIGINT drain it, a second one ends it at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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

/// Cancels the token at the first SIGTERM or SIGINT, and ends the process at the second.
///
/// # Errors
/// When signals can't be listened for.
pub fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
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
        std::process::exit(130);
    });
    Ok(())
}
