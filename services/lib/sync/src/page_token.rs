//! Pagination tokens: a place between two rows of a room's history, by their order key. Opaque to clients.

use std::{fmt, str::FromStr};

use polity_core::{OrderKey, Seq};

/// A place between two events: before the one with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken(OrderKey);

/// A text that is no pagination token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a pagination token")]
pub struct InvalidPageToken;

impl PageToken {
    /// The place just before the live row `seq`.
    #[must_use]
    pub fn before(seq: Seq) -> Self {
        Self(OrderKey::live(seq))
    }

    /// The place just after the live row `seq`.
    #[must_use]
    pub fn after(seq: Seq) -> Self {
        Self(OrderKey::live(seq.next()))
    }

    /// The row before it; `None` at the beginning.
    #[must_use]
    pub fn last_before(self) -> Option<Seq> {
        self.0.anchor.get().checked_sub(1).map(Seq::new).filter(|seq| *seq > Seq::ZERO)
    }

    /// The row that follows.
    #[must_use]
    pub fn next_seq(self) -> Seq {
        self.0.anchor
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p1_{}_{}", self.0.anchor, self.0.sub)
    }
}

impl FromStr for PageToken {
    type Err = InvalidPageToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (anchor, sub) = text.strip_prefix("p1_").and_then(|rest| rest.split_once('_')).ok_or(InvalidPageToken)?;
        let anchor: u64 = anchor.parse().map_err(|_| InvalidPageToken)?;
        let sub: i64 = sub.parse().map_err(|_| InvalidPageToken)?;
        // What lies below an anchor is backfilled history, which nothing writes yet.
        if Seq::new(anchor) > Seq::MAX || sub != 0 {
            return Err(InvalidPageToken);
        }
        Ok(Self(OrderKey { anchor: Seq::new(anchor), sub }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_other_texts_are_refused() {
        let token = PageToken::before(Seq::new(7));
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!(PageToken::after(Seq::new(6)), token);
        for text in ["", "p1", "p1_", "p1_x_0", "p1_1", "p1_1_-1", "p2_1_0", "s1_2", "p1_99999999999999_0"] {
            assert_eq!(text.parse::<PageToken>(), Err(InvalidPageToken), "{text}");
        }
    }
}
