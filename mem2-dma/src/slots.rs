//! Which slots are free: a bitmap with a summary per group, first fit in address order, bounded work.
//!
//! Slots come in groups of 128: four words of bitmap and three bytes of summary (free slots at the start, longest free run, free slots at the
//! end), 1.25 bits a slot. A search walks the summaries and looks into the one group that promises a run. Freeing keeps a summary exact at little
//! cost; taking leaves `longest` an upper bound in the group it took from. At most one group is stale in that way: before a second becomes so, the
//! first is measured. So no history of the pool can make a call look into more than three groups.
//!
//! Slot 0 is the most significant bit of its word: PowerPC counts leading zeros in one instruction.

#[cfg(test)]
mod tests;

/// Slots per group.
pub const GROUP_SLOTS: u32 = 128;
const WORD: u32 = 32;
const NONE: u32 = u32::MAX;

/// The bookkeeping of 128 slots. Its content is private to this module; [`Storage`](crate::Storage) holds as many as a pool needs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Group {
    /// A set bit is a free slot.
    words: [u32; 4],
    /// Free slots at the start of the group. Exact.
    prefix: u8,
    /// The longest free run within the group. Exact, or an upper bound in the stale group.
    longest: u8,
    /// Free slots at the end of the group. Exact.
    suffix: u8,
    /// Fills the word, so that a group is five stores.
    spare: u8,
}

impl Group {
    /// A group without a free slot: what storage is filled with.
    pub const FULL: Self = Self {
        words: [0; 4],
        prefix: 0,
        longest: 0,
        suffix: 0,
        spare: 0,
    };

    /// A group without a taken slot.
    const FREE: Self = Self {
        words: [u32::MAX; 4],
        prefix: GROUP_SLOTS as u8,
        longest: GROUP_SLOTS as u8,
        suffix: GROUP_SLOTS as u8,
        spare: 0,
    };

    /// Finds the first run of `n` free slots that lies within the group.
    fn find(&self, n: u32) -> Option<u32> {
        let mut run = 0;
        let mut base = 0;
        for &word in &self.words {
            if run + word.leading_ones() >= n {
                return Some(base - run);
            }
            if word == u32::MAX {
                run += WORD;
            } else {
                let starts = run_starts(word, n);
                if starts != 0 {
                    return Some(base + starts.leading_zeros());
                }
                run = word.trailing_ones();
            }
            base += WORD;
        }
        None
    }

    /// Measures the longest run.
    fn measure(&self) -> u32 {
        let mut longest = 0;
        let mut run = 0;
        for &word in &self.words {
            longest = longest.max(run + word.leading_ones());
            if word == u32::MAX {
                run += WORD;
                continue;
            }
            let mut longer = run_starts(word, longest + 1);
            while longer != 0 {
                longest += 1;
                longer &= longer << 1;
            }
            run = word.trailing_ones();
        }
        longest
    }

    /// Counts the free slots from `at` on.
    fn free_from(&self, at: u32) -> u32 {
        let mut count = 0;
        let mut at = at;
        while at < GROUP_SLOTS {
            let bit = at % WORD;
            let ones = (self.word(at) << bit).leading_ones();
            count += ones;
            if ones < WORD - bit {
                break;
            }
            at += ones;
        }
        count
    }

    /// Counts the free slots that end just before `at`.
    fn free_before(&self, at: u32) -> u32 {
        let mut count = 0;
        let mut at = at;
        while at > 0 {
            let bits = (at - 1) % WORD + 1;
            let ones = (self.word(at - 1) >> (WORD - bits)).trailing_ones();
            count += ones;
            if ones < bits {
                break;
            }
            at -= ones;
        }
        count
    }

    fn word(&self, slot: u32) -> u32 {
        self.words[(slot / WORD % 4) as usize]
    }

    /// Marks the slots from `from` to `to` free or taken.
    #[inline(always)]
    fn mark(&mut self, from: u32, to: u32, free: bool) {
        let mut at = from;
        while at < to {
            let bit = at % WORD;
            let count = (WORD - bit).min(to - at);
            let mask = (u32::MAX << (WORD - count)) >> bit;
            let word = &mut self.words[(at / WORD % 4) as usize];
            if free {
                *word |= mask;
            } else {
                *word &= !mask;
            }
            at += count;
        }
    }

    /// Takes a free range that is not the whole group. From here on `longest` is an upper bound only.
    #[inline(always)]
    fn take(&mut self, from: u32, to: u32) {
        self.mark(from, to, false);
        self.prefix = u32::from(self.prefix).min(from) as u8;
        self.suffix = u32::from(self.suffix).min(GROUP_SLOTS - to) as u8;
    }

    /// Frees a taken range and brings the summary up to date.
    #[inline(always)]
    fn free(&mut self, from: u32, to: u32) {
        // The ends first: the summary knows them, and most of what is freed lies beside one.
        let start = if u32::from(self.prefix) == from {
            0
        } else {
            from - self.free_before(from)
        };
        let end = if u32::from(self.suffix) == GROUP_SLOTS - to {
            GROUP_SLOTS
        } else {
            to + self.free_from(to)
        };
        self.mark(from, to, true);
        let run = end - start;
        self.longest = u32::from(self.longest).max(run) as u8;
        if start == 0 {
            self.prefix = run as u8;
        }
        if end == GROUP_SLOTS {
            self.suffix = run as u8;
        }
    }
}

/// Returns the bits of `word` at which `n` set bits start (none if `n` is over 32): shift-and, doubling the length tested each time.
fn run_starts(mut word: u32, n: u32) -> u32 {
    if n > WORD {
        return 0;
    }
    let mut tested = 1;
    while tested < n && word != 0 {
        let step = tested.min(n - tested);
        word &= word << step;
        tested += step;
    }
    word
}

/// The free slots of a pool.
pub(crate) struct Slots<'m> {
    groups: &'m mut [Group],
    /// The one group whose `longest` may be too high, or `NONE`.
    stale: u32,
    total: u32,
    free: u32,
}

impl<'m> Slots<'m> {
    /// Makes `total` slots, all free. Uses as many groups as that takes; fewer slots if there are not enough.
    pub(crate) fn new(groups: &'m mut [Group], total: u32) -> Self {
        let room = u32::try_from(groups.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(GROUP_SLOTS);
        let total = total.min(room);
        groups.fill(Group::FULL);
        let mut slots = Self {
            groups,
            stale: NONE,
            total,
            free: 0,
        };
        slots.release(0, total);
        slots
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Finds the first run of `n` free slots, or returns the length of the longest run.
    #[inline(always)]
    pub(crate) fn find(&mut self, n: u32) -> Result<u32, u32> {
        match self.groups.first() {
            Some(group) if u32::from(group.prefix) >= n => Ok(0),
            _ => self.search(n),
        }
    }

    #[inline(never)]
    fn search(&mut self, n: u32) -> Result<u32, u32> {
        let mut carry = 0;
        let mut longest = 0;
        let mut base = 0;
        for (index, group) in self.groups.iter_mut().enumerate() {
            let joined = carry + u32::from(group.prefix);
            if joined >= n {
                return Ok(base - carry);
            }
            if u32::from(group.longest) >= n
                && let Some(at) = group.find(n)
            {
                return Ok(base + at);
            }
            if self.stale == index as u32 {
                group.longest = group.measure() as u8;
                self.stale = NONE;
            }
            longest = longest.max(joined).max(u32::from(group.longest));
            carry = if u32::from(group.prefix) == GROUP_SLOTS {
                joined
            } else {
                u32::from(group.suffix)
            };
            base += GROUP_SLOTS;
        }
        Err(longest)
    }

    /// Offers every maximal run of at least `n` free slots to `fit`, in address order, until it accepts one; or returns the length of the longest run.
    ///
    /// For requests that not every run suits. The work is bounded by the number of runs.
    pub(crate) fn find_fit<T>(
        &self,
        n: u32,
        mut fit: impl FnMut(u32, u32) -> Option<T>,
    ) -> Result<T, u32> {
        let mut run = (0, 0);
        let mut longest = 0;
        let mut base = 0;
        for group in self.groups.iter() {
            if u32::from(group.prefix) == GROUP_SLOTS {
                run.1 += GROUP_SLOTS;
                base += GROUP_SLOTS;
                continue;
            }
            run.1 += u32::from(group.prefix);
            let mut at = u32::from(group.prefix);
            // Every turn ends one run and starts the next; the last one stays open, for the next group may continue it.
            loop {
                longest = longest.max(run.1);
                if run.1 >= n
                    && let Some(found) = fit(run.0, run.1)
                {
                    return Ok(found);
                }
                if u32::from(group.longest) < n.min(longest + 1) {
                    at = GROUP_SLOTS - u32::from(group.suffix);
                    run = (base + at, u32::from(group.suffix));
                    break;
                }
                while at < GROUP_SLOTS && group.free_from(at) == 0 {
                    let skip = (!group.word(at) << (at % WORD)).leading_ones();
                    at += skip.clamp(1, WORD - at % WORD);
                }
                let len = group.free_from(at);
                run = (base + at, len);
                at += len;
                if at >= GROUP_SLOTS {
                    break;
                }
            }
            base += GROUP_SLOTS;
        }
        longest = longest.max(run.1);
        if run.1 >= n
            && let Some(found) = fit(run.0, run.1)
        {
            return Ok(found);
        }
        Err(longest)
    }

    /// Takes `n` slots from `start` on, which the caller has found to be free.
    #[inline(always)]
    pub(crate) fn take(&mut self, start: u32, n: u32) {
        self.free = self.free.wrapping_sub(n);
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        if from + n >= GROUP_SLOTS {
            self.take_long(start, n);
        } else if let Some(group) = self.groups.get_mut(index as usize) {
            group.take(from, from + n);
            self.went_stale(index);
        }
    }

    /// Frees `n` slots from `start` on, which the caller has taken.
    #[inline(always)]
    pub(crate) fn release(&mut self, start: u32, n: u32) {
        self.free = self.free.wrapping_add(n);
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        if from + n >= GROUP_SLOTS {
            self.release_long(start, n);
        } else if let Some(group) = self.groups.get_mut(index as usize) {
            group.free(from, from + n);
        }
    }

    /// Takes slots up to the end of a group, and beyond.
    #[inline(never)]
    fn take_long(&mut self, start: u32, n: u32) {
        let (mut index, mut from, mut rest) = (start / GROUP_SLOTS, start % GROUP_SLOTS, n);
        while let Some(group) = self.groups.get_mut(index as usize) {
            let to = (from + rest).min(GROUP_SLOTS);
            if to - from == GROUP_SLOTS {
                *group = Group::FULL;
                if self.stale == index {
                    self.stale = NONE;
                }
            } else if to > from {
                group.take(from, to);
                self.went_stale(index);
            }
            rest -= to - from;
            if rest == 0 {
                break;
            }
            from = 0;
            index += 1;
        }
    }

    /// Frees slots up to the end of a group, and beyond.
    #[inline(never)]
    fn release_long(&mut self, start: u32, n: u32) {
        let (mut index, mut from, mut rest) = (start / GROUP_SLOTS, start % GROUP_SLOTS, n);
        while let Some(group) = self.groups.get_mut(index as usize) {
            let to = (from + rest).min(GROUP_SLOTS);
            if to - from == GROUP_SLOTS {
                *group = Group::FREE;
            } else if to > from {
                group.free(from, to);
            }
            rest -= to - from;
            if rest == 0 {
                break;
            }
            from = 0;
            index += 1;
        }
    }

    /// Notes that the `longest` of a group is an upper bound now. Only one may be so: measures the one before.
    #[inline(always)]
    fn went_stale(&mut self, index: u32) {
        if self.stale != index {
            if self.stale != NONE {
                self.measure_stale();
            }
            self.stale = index;
        }
    }

    #[inline(never)]
    fn measure_stale(&mut self) {
        if let Some(group) = self.groups.get_mut(self.stale as usize) {
            group.longest = group.measure() as u8;
        }
    }
}
