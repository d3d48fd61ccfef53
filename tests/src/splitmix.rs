//! SplitMix64 (Steele, Lea and Flood, 2014): a small random number generator with the same results on every machine.

/// Pseudorandom numbers from a seed.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below a limit, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from(self.next() % limit).expect("smaller still")
    }

    /// Shuffles a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            let other = self.below(place + 1);
            list.swap(place, other);
        }
    }
}

/// Pseudorandom bytes from a seed.
pub fn fill(buffer: &mut [u8], seed: u64) {
    let mut random = Random(seed);
    for chunk in buffer.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_different_seeds_differ() {
        let payload = |seed| {
            let mut buffer = [0; 11];
            fill(&mut buffer, seed);
            buffer
        };
        assert_eq!(payload(1), payload(1));
        assert_ne!(payload(1), payload(2));
    }
}
