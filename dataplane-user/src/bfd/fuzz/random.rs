//! Random numbers that a seed determines.

/// Numbers of a fixed seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub(crate) fn new(seed: u64) -> Random {
        // Zero would stay zero.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number.
    pub(crate) fn number(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).expect("32 bits are left")
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.number()) * u64::from(bound)) >> 32).expect("it is below the bound")
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }

    /// An index of a non-empty slice.
    pub(crate) fn index<T>(&mut self, slice: &[T]) -> usize {
        self.below(u32::try_from(slice.len()).expect("it is short")) as usize
    }
}
