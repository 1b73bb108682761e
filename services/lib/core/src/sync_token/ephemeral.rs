//! Where what lives in instances' memory stood: typing, display of receipts.

use super::{
    InvalidToken,
    varint::{Reader, put},
};

/// Instances that a token remembers. A client that is sent to more of them, one after the other, is told less by them.
const INSTANCES: usize = 8;

/// A place in what one instance remembers: of use to that instance only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EphemeralPosition {
    /// Whose counter it is.
    pub instance: u32,
    /// The counter.
    pub counter: u64,
}

/// A place at each of the instances that answered the client last, the newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EphemeralPositions {
    places: [EphemeralPosition; INSTANCES],
    used: usize,
}

impl EphemeralPositions {
    /// The place at an instance, if it has answered lately.
    #[must_use]
    pub fn at(&self, instance: u32) -> Option<EphemeralPosition> {
        self.used().iter().find(|place| place.instance == instance).copied()
    }

    /// The place at the instance that made the token; that of none, where it is made by nobody yet.
    #[must_use]
    pub fn newest(&self) -> EphemeralPosition {
        self.used().first().copied().unwrap_or_default()
    }

    /// Whether as many instances have answered as are remembered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used == INSTANCES
    }

    /// The same when an instance has answered; the one that did so longest ago may be forgotten.
    #[must_use]
    pub fn with(&self, newest: EphemeralPosition) -> Self {
        let mut out = Self::default();
        let others = self.used().iter().filter(|place| place.instance != newest.instance);
        for (to, from) in out.places.iter_mut().zip([newest].iter().chain(others)) {
            *to = *from;
            out.used += 1;
        }
        out
    }

    fn used(&self) -> &[EphemeralPosition] {
        &self.places[..self.used]
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.used as u64);
        for place in self.used() {
            put(out, u64::from(place.instance));
            put(out, place.counter);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, InvalidToken> {
        let used = usize::try_from(reader.number()?).ok().filter(|used| *used <= INSTANCES).ok_or(InvalidToken)?;
        let mut out = Self { used, ..Self::default() };
        for place in &mut out.places[..used] {
            *place = Self::decode_one(reader)?;
        }
        Ok(out)
    }

    pub(super) fn decode_one(reader: &mut Reader<'_>) -> Result<EphemeralPosition, InvalidToken> {
        let instance = u32::try_from(reader.number()?).map_err(|_| InvalidToken)?;
        Ok(EphemeralPosition { instance, counter: reader.number()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instances_that_answered_last_are_remembered() {
        let mut places = EphemeralPositions::default();
        for (instance, counter) in [(1, 10), (2, 20), (1, 11)] {
            places = places.with(EphemeralPosition { instance, counter });
        }
        let counter = |places: &EphemeralPositions, instance| places.at(instance).map(|place| place.counter);
        assert_eq!((counter(&places, 1), counter(&places, 2), counter(&places, 3)), (Some(11), Some(20), None));
        assert_eq!((places.newest().instance, EphemeralPositions::default().newest().instance), (1, 0));
        for instance in 100..107 {
            assert!(!places.is_full() || instance > 105);
            places = places.with(EphemeralPosition { instance, counter: 1 });
        }
        assert!(places.is_full());
        assert_eq!((counter(&places, 2), counter(&places, 1)), (None, Some(11)));
    }
}
