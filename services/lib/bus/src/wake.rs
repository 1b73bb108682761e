//! What wakes whoever waits for a user's or a device's news: where to look, never what is there.

use bytes::Bytes;
use polity_core::Seq;

const LOG: u8 = 1;
const PARTITION: u8 = 2;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The subject's log has come so far.
    Log(Seq),
    /// A partition of the user's was written that has this mark.
    Partition(u16),
}

impl Wake {
    /// The payload.
    #[must_use]
    pub fn encode(self) -> Bytes {
        match self {
            Self::Log(seq) => [&[LOG][..], &seq.get().to_be_bytes()].concat().into(),
            Self::Partition(mark) => [&[PARTITION][..], &mark.to_be_bytes()].concat().into(),
        }
    }

    /// Reads what [`Wake::encode`] wrote; what may follow it is given back.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<(Self, &[u8])> {
        match payload.split_first()? {
            (&LOG, rest) => {
                let (seq, rest) = rest.split_first_chunk()?;
                Some((Self::Log(Seq::new(u64::from_be_bytes(*seq))), rest))
            }
            (&PARTITION, rest) => {
                let (mark, rest) = rest.split_first_chunk()?;
                Some((Self::Partition(u16::from_be_bytes(*mark)), rest))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_read_as_it_was_written() {
        for wake in [Wake::Log(Seq::new(77)), Wake::Partition(0xabcd)] {
            let payload = [&wake.encode()[..], b"rest"].concat();
            assert_eq!(Wake::decode(&payload), Some((wake, &b"rest"[..])));
            assert_eq!(Wake::decode(&wake.encode()[..2]), None);
        }
        assert_eq!((Wake::decode(b""), Wake::decode(b"\x07123456789")), (None, None));
    }
}
