//! Who decides what a cache is free to do: evict a line, fill one by speculation, or neither.

/// A source of decisions.
#[derive(Clone, Debug, Default)]
pub enum Adversary {
    /// Never does anything.
    #[default]
    Idle,
    /// Decides at random, reproducibly.
    Seeded(Random),
    /// Follows a path of decisions, for [`exhaustively`].
    Path {
        /// The decisions so far.
        taken: Vec<bool>,
        /// How many of them have been used up.
        next: usize,
    },
}

impl Adversary {
    /// Makes one that decides at random.
    pub const fn seeded(seed: u64) -> Self {
        Self::Seeded(Random::new(seed))
    }

    /// Decides.
    pub(crate) fn decide(&mut self) -> bool {
        match self {
            Self::Idle => false,
            Self::Seeded(random) => random.below(2) == 1,
            Self::Path { taken, next } => {
                if *next == taken.len() {
                    taken.push(false);
                }
                *next += 1;
                taken[*next - 1]
            }
        }
    }

    /// Picks one of `count` lines to do something with, if this adversary does things unasked.
    pub(crate) fn pick(&mut self, count: usize) -> Option<usize> {
        match self {
            Self::Seeded(random) => Some(random.below(count as u32) as usize),
            _ => None,
        }
    }
}

/// Runs a scenario under every sequence of decisions. It is given an adversary and returns it as it is afterwards. Returns how many there were.
///
/// The number is exponential in the decisions: two for every line that a device touches, two for every one that a cache operation does.
pub fn exhaustively(mut scenario: impl FnMut(Adversary) -> Adversary) -> usize {
    let mut taken = Vec::new();
    let mut runs = 0;
    loop {
        let ended = scenario(Adversary::Path { taken, next: 0 });
        runs += 1;
        taken = match ended {
            Adversary::Path { taken, .. } => taken,
            _ => return runs,
        };
        // The next path: the last `false` becomes `true`, what comes after it is forgotten.
        while taken.last() == Some(&true) {
            taken.pop();
        }
        match taken.last_mut() {
            Some(last) => *last = true,
            None => return runs,
        }
    }
}

/// Reproducible random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0 for 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }
}
