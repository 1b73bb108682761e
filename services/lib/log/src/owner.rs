//! Who writes a log when several processes share a store: ownership is for speed, what makes a write safe is its condition.

use polity_core::IncarnationId;

use crate::{LogError, Machine, MemberState, append::Known, log::Log};

/// Who may write the logs of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// This process alone has the store: whoever wrote before is dead.
    Alone,
    /// Any process, at any time: it goes on from where another one stopped, and whoever loses an append tries again.
    Any,
    /// One at a time: the process that the head names, as long as it is there and has the log open.
    One,
}

/// How a command came to this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Another process has handed it on: where the log isn't open the answer is [`LogError::NotHeld`].
    pub forwarded: bool,
    /// What whoever asks knows of the process that wrote last.
    pub claim: Option<Claim>,
}

/// Why a log may be taken over from the process that its head names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// That process.
    pub from: IncarnationId,
    /// What is known of it.
    pub why: Why,
}

/// See [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It said that it doesn't have the log open.
    NotHeld,
    /// It hasn't answered for so long that the log is taken from it.
    Silent,
}

impl<M: Machine> Log<M> {
    /// Whether a log with this head must be fenced before it is written.
    ///
    /// # Errors
    /// [`LogError::Elsewhere`] when it is another process's.
    pub(crate) async fn must_fence(&self, known: &Known, claim: Option<Claim>) -> Result<bool, LogError> {
        let registry = &self.inner.env.registry;
        if known.is_own(registry.incarnation()) {
            return Ok(false);
        }
        match self.inner.writers {
            // Whoever wrote it may still be about to: after the fence he can't.
            Writers::Alone => Ok(true),
            // He may, and so may this process: of two writes that follow the same row one is lost.
            Writers::Any => Ok(false),
            Writers::One => {
                let writer = known.head.writer;
                let why = claim.filter(|claim| claim.from == writer).map(|claim| claim.why);
                match (registry.state_of(writer).await?, why) {
                    // Nothing of it is unknown or unprojected; or whoever finishes what it left fences, and of two writes that follow the
                    // same row one is lost, here, too.
                    (MemberState::Drained, _) | (_, Some(Why::NotHeld)) => Ok(false),
                    // A dead one's log is fenced by whoever finishes it, and what a silent one has under way it settles itself. This
                    // fence lets neither be waited for: what they have under way can't land once this process has answered.
                    (MemberState::Closed, _) | (MemberState::Open, Some(Why::Silent)) => Ok(true),
                    (MemberState::Open, None) => Err(LogError::Elsewhere(writer)),
                }
            }
        }
    }
}
