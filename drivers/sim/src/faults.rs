//! Chance, drawn from a seed in integers.

/// A generator of numbers (SplitMix64: each state is the last plus a constant, mixed).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns a generator that always gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// Returns an index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// Returns whether the chance came true.
    pub fn chance(&mut self, ratio: Ratio) -> bool {
        self.below(u64::from(ratio.of)) < u64::from(ratio.hits)
    }
}

/// A chance in whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// So many times ...
    pub hits: u32,
    /// ... out of so many.
    pub of: u32,
}

/// Never.
const NEVER: Ratio = Ratio { hits: 0, of: 1 };

/// How often each fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chances {
    /// A step fails before it does anything.
    pub fail_before: Ratio,
    /// A step is done and its answer says that it failed.
    pub lose_reply: Ratio,
    /// Half of a step is done and it fails.
    pub do_half: Ratio,
    /// A step fails in a way that only a person can mend.
    pub terminal: Ratio,
    /// One fact cannot be read.
    pub gap: Ratio,
    /// A listing stops half way.
    pub incomplete: Ratio,
}

impl Chances {
    /// Returns a world where nothing fails.
    #[must_use]
    pub fn none() -> Self {
        Self {
            fail_before: NEVER,
            lose_reply: NEVER,
            do_half: NEVER,
            terminal: NEVER,
            gap: NEVER,
            incomplete: NEVER,
        }
    }

    /// Returns which faults are on in one run, and how often each of them comes: some runs
    /// are calm but for one kind, some are wild.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut one = |most: u32| match rng.below(3) {
            0 => NEVER,
            _ => {
                let hits = u32::try_from(rng.below(u64::from(most))).unwrap_or(0);
                Ratio { hits, of: 100 }
            }
        };
        Self {
            fail_before: one(40),
            lose_reply: one(40),
            do_half: one(40),
            terminal: one(10),
            gap: one(15),
            incomplete: one(40),
        }
    }
}
