//! Waiting for what a process stands on: a cluster's parts start in any order.

use std::{fmt::Display, time::Duration};

use polity_log::LogError;
use polity_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The pauses between attempts double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How often it is said that something isn't there.
const SAID: Duration = Duration::from_secs(15);

/// Why an attempt failed.
pub(crate) enum Attempt {
    /// It may succeed later.
    Later(String),
    /// It never will: somebody has to do something.
    Never(Failure),
}

impl Attempt {
    pub(crate) fn later(error: impl Display) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Never(failure)
    }
}

impl From<StoreError> for Attempt {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Unknown(_) => Self::later(error),
            error => Self::Never(error.into()),
        }
    }
}

impl From<LogError> for Attempt {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            error => Self::Never(error.into()),
        }
    }
}

/// Tries until it succeeds, with growing pauses; nothing when `stop` came first.
pub(crate) async fn until_there<T, F>(
    what: &str,
    stop: &CancellationToken,
    mut attempt: impl FnMut() -> F,
) -> Result<Option<T>, Failure>
where
    F: Future<Output = Result<T, Attempt>>,
{
    let (mut pause, longest) = PAUSES;
    let mut said: Option<Instant> = None;
    loop {
        let tried = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            tried = attempt() => tried,
        };
        let reason = match tried {
            Ok(there) => {
                if said.is_some() {
                    tracing::info!("{what} is there");
                }
                return Ok(Some(there));
            }
            Err(Attempt::Never(failure)) => return Err(failure),
            Err(Attempt::Later(reason)) => reason,
        };
        if said.is_none_or(|said| said.elapsed() >= SAID) {
            tracing::warn!(%reason, "waiting for {what}");
            said = Some(Instant::now());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
        pause = longest.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_with_growing_pauses_until_it_is_there_hopeless_or_not_wanted() {
        let (stop, tries, began) = (CancellationToken::new(), Cell::new(0), Instant::now());
        let third = || {
            tries.set(tries.get() + 1);
            std::future::ready(if tries.get() == 3 { Ok("there") } else { Err(Attempt::later("not yet")) })
        };
        assert_eq!(until_there("it", &stop, third).await.unwrap(), Some("there"));
        assert_eq!(began.elapsed(), Duration::from_millis(300));

        let hopeless = || std::future::ready(Err::<(), _>(Attempt::Never(Failure::new(64, "no"))));
        assert_eq!(until_there("it", &stop, hopeless).await.unwrap_err().code, 64);

        let began = Instant::now();
        let never = || {
            if began.elapsed() > Duration::from_secs(60) {
                stop.cancel();
            }
            std::future::ready(Err::<(), _>(Attempt::later("not yet")))
        };
        assert_eq!(until_there("it", &stop, never).await.unwrap(), None);
        assert!(began.elapsed() < Duration::from_secs(64));
        let hanging = std::future::pending::<Result<(), Attempt>>;
        assert_eq!(until_there("it", &stop, hanging).await.unwrap(), None);
    }
}
