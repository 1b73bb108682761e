//! Randomness is an argument, like time.

/// A source of random bytes, fit for secrets unless its implementation says otherwise.
pub trait Random: Send + Sync + 'static {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buf: &mut [u8]) {
        // Without randomness no secret can be made: going on would be worse than ending the process.
        getrandom::fill(buf).expect("the operating system provides randomness");
    }
}

impl dyn Random {
    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random number below `bound` (which must not be 0); its bias is below 2^-32 for bounds under 2^32.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % bound.max(1)
    }

    /// A string of `len` random letters and digits (5.95 bits each).
    #[must_use]
    pub fn alphanumeric(&self, len: usize) -> String {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut out = String::with_capacity(len);
        while out.len() < len {
            let block: [u8; 32] = self.bytes();
            // Rejecting the values above the largest multiple of 62 keeps the letters equally likely.
            out.extend(
                block
                    .iter()
                    .filter(|b| **b < 248)
                    .map(|b| char::from(ALPHABET[usize::from(*b) % 62]))
                    .take(len - out.len()),
            );
        }
        out
    }
}
