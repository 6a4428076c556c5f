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

use core::ops::Range;

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

    /// Finds the first run of `n` free slots, of which there is one.
    fn find(&self, n: u32) -> u32 {
        let mut run = 0;
        let mut base = 0;
        for &word in &self.words {
            if run + word.leading_ones() >= n {
                break;
            }
            if word == u32::MAX {
                run += WORD;
            } else {
                run = word.trailing_ones();
                // A run of n has set bits that far apart: most words fail here.
                if word & word.checked_shl(n - 1).unwrap_or(0) != 0 {
                    let starts = run_starts(word, n);
                    if starts != 0 {
                        return base + starts.leading_zeros();
                    }
                }
            }
            base += WORD;
        }
        base - run
    }

    /// Measures the longest run.
    #[inline(never)]
    fn measure(&self) -> u32 {
        // These two are exact, whatever `longest` is.
        let mut longest = u32::from(self.prefix.max(self.suffix));
        let mut run = 0;
        for &word in &self.words {
            longest = longest.max(run + word.leading_ones());
            if word == u32::MAX {
                run += WORD;
                continue;
            }
            // A longer run has set bits that far apart: most words fail here.
            let mut starts = word & word.checked_shl(longest).unwrap_or(0);
            if starts != 0 {
                starts = run_starts(word, longest + 1);
            }
            // Longer by steps that double, then halve.
            let mut step = 1;
            while starts != 0 {
                longest += step;
                step = longest;
                loop {
                    let longer = starts & starts.checked_shl(step).unwrap_or(0);
                    if longer != 0 {
                        starts = longer;
                        break;
                    }
                    step /= 2;
                    if step == 0 {
                        starts = 0;
                        break;
                    }
                }
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

    /// Turns the slots from `from` to `to`, all of them free or all taken, into the other.
    #[inline(always)]
    fn flip(&mut self, from: u32, to: u32) {
        let (first, last) = ((from / WORD) as usize, ((to - 1) / WORD) as usize);
        let head = u32::MAX >> (from % WORD);
        let tail = u32::MAX << (WORD - 1 - (to - 1) % WORD);
        if first == last {
            self.words[first % 4] ^= head & tail;
        } else {
            self.words[first % 4] ^= head;
            for word in self.words.get_mut(first + 1..last).unwrap_or_default() {
                *word = !*word;
            }
            self.words[last % 4] ^= tail;
        }
    }

    /// Updates the summary after a range was taken. From here on `longest` is an upper bound only.
    #[inline(always)]
    fn shorten(&mut self, from: u32, to: u32) {
        self.prefix = u32::from(self.prefix).min(from) as u8;
        self.suffix = u32::from(self.suffix).min(GROUP_SLOTS - to) as u8;
    }

    /// Updates the summary after a range was freed.
    #[inline(always)]
    fn lengthen(&mut self, from: u32, to: u32) {
        // The summary knows the ends, and most of what is freed lies beside one.
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

/// Splits a range into the slots in its first group unless it covers that one, the groups that it covers (counted from its first), and the slots in its last.
fn split(start: u32, n: u32) -> (u32, Range<u32>, u32) {
    let from = start % GROUP_SLOTS;
    let head = if from == 0 && n >= GROUP_SLOTS {
        0
    } else {
        n.min(GROUP_SLOTS - from)
    };
    let first = u32::from(head != 0);
    let rest = n - head;
    (head, first..first + rest / GROUP_SLOTS, rest % GROUP_SLOTS)
}

/// The free slots of a pool.
pub(crate) struct Slots<'m> {
    groups: &'m mut [Group],
    /// The one group whose `longest` may be too high, or `NONE`.
    stale: u32,
    total: u32,
    free: u32,
    /// The fewest that were ever free.
    least_free: u32,
    /// No slot before this one is free.
    hint: u32,
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
            least_free: total,
            hint: 0,
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

    /// Returns the most slots that were ever taken at a time.
    pub(crate) fn high_water(&self) -> u32 {
        self.total - self.least_free
    }

    /// Takes the first run of `n` free slots if it starts at the first free slot and lies within one word: most do. `None` says nothing.
    #[inline(always)]
    pub(crate) fn take_first(&mut self, n: u32) -> Option<u32> {
        let start = self.hint;
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        let bit = from % WORD;
        if bit + n > WORD || (self.stale != index && self.stale != NONE) {
            return None;
        }
        let group = self.groups.get_mut(index as usize)?;
        let word = &mut group.words[(from / WORD) as usize];
        let mask = (u32::MAX << (WORD - n)) >> bit;
        if *word & mask != mask {
            return None;
        }
        *word &= !mask;
        // Nothing before it is free, in the group as in the pool.
        group.prefix = 0;
        group.suffix = u32::from(group.suffix).min(GROUP_SLOTS - from - n) as u8;
        self.stale = index;
        self.hint = start + n;
        self.count_taken(n);
        Some(start)
    }

    #[inline(always)]
    fn count_taken(&mut self, n: u32) {
        self.free = self.free.wrapping_sub(n);
        self.least_free = self.least_free.min(self.free);
    }

    /// Finds the first run of `n` free slots, or returns the length of the longest run.
    pub(crate) fn find(&mut self, n: u32) -> Result<u32, u32> {
        self.advance_hint();
        if n > GROUP_SLOTS {
            return self.find_long(n);
        }
        self.measure_stale();
        let skip = self.hint / GROUP_SLOTS;
        let mut carry = 0;
        let mut longest = 0;
        let mut base = skip * GROUP_SLOTS;
        for group in self.groups.get(skip as usize..).unwrap_or_default() {
            let joined = carry + u32::from(group.prefix);
            if joined >= n {
                return Ok(base - carry);
            }
            if u32::from(group.longest) >= n {
                return Ok(base + group.find(n));
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

    /// Finds a run that no group holds by itself.
    fn find_long(&mut self, n: u32) -> Result<u32, u32> {
        let mut carry = 0;
        let mut base = 0;
        for group in self.groups.iter() {
            let joined = carry + u32::from(group.prefix);
            if joined >= n {
                return Ok(base - carry);
            }
            carry = if u32::from(group.prefix) == GROUP_SLOTS {
                joined
            } else {
                u32::from(group.suffix)
            };
            base += GROUP_SLOTS;
        }
        Err(self.longest())
    }

    /// Returns the length of the longest run.
    fn longest(&mut self) -> u32 {
        self.measure_stale();
        let mut carry = 0;
        let mut longest = 0;
        for group in self.groups.iter() {
            let joined = carry + u32::from(group.prefix);
            longest = longest.max(joined).max(u32::from(group.longest));
            carry = if u32::from(group.prefix) == GROUP_SLOTS {
                joined
            } else {
                u32::from(group.suffix)
            };
        }
        longest
    }

    /// Moves the hint past taken slots, to the end of its word at most.
    fn advance_hint(&mut self) {
        if let Some(group) = self.groups.get((self.hint / GROUP_SLOTS) as usize) {
            let bit = self.hint % WORD;
            let taken = (!group.word(self.hint) << bit).leading_ones();
            self.hint += taken.min(WORD - bit);
        }
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
    pub(crate) fn take(&mut self, start: u32, n: u32) {
        self.count_taken(n);
        if start == self.hint {
            self.hint = start + n;
        }
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        if from + n <= GROUP_SLOTS {
            return self.take_part(index, from, from + n);
        }
        let (head, whole, tail) = split(start, n);
        self.take_part(index, from, from + head);
        let last = index + whole.end;
        self.groups
            .get_mut((index + whole.start) as usize..last as usize)
            .unwrap_or_default()
            .fill(Group::FULL);
        if (index + whole.start..last).contains(&self.stale) {
            self.stale = NONE;
        }
        self.take_part(last, 0, tail);
    }

    /// Takes slots of one group.
    fn take_part(&mut self, index: u32, from: u32, to: u32) {
        let Some(group) = self.groups.get_mut(index as usize).filter(|_| from < to) else {
            return;
        };
        if to - from == GROUP_SLOTS {
            *group = Group::FULL;
            if self.stale == index {
                self.stale = NONE;
            }
            return;
        }
        let run = if u32::from(group.prefix) > from {
            u32::from(group.prefix)
        } else if u32::from(group.suffix) > GROUP_SLOTS - to {
            u32::from(group.suffix)
        } else {
            group.free_before(from) + group.free_from(from)
        };
        // If they are not of the longest run, that one still is the longest; if they are, who knows.
        let mut stale = run >= u32::from(group.longest) || self.stale == index;
        if run == GROUP_SLOTS {
            group.longest = from.max(GROUP_SLOTS - to) as u8;
            stale = false;
        }
        group.flip(from, to);
        group.shorten(from, to);
        if self.stale == index {
            self.stale = NONE;
        }
        if stale {
            self.measure_stale();
            self.stale = index;
        }
    }

    /// Frees `n` slots from `start` on, which the caller has taken.
    #[inline(always)]
    pub(crate) fn release(&mut self, start: u32, n: u32) {
        self.free = self.free.wrapping_add(n);
        self.hint = self.hint.min(start);
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        if from % WORD + n > WORD {
            return self.release_long(start, n);
        }
        if let Some(group) = self.groups.get_mut(index as usize) {
            let mask = (u32::MAX << ((WORD - n) % WORD)) >> (from % WORD);
            group.words[(from / WORD) as usize] |= mask;
            group.lengthen(from, from + n);
        }
    }

    /// Frees slots of more than one word.
    #[inline(never)]
    fn release_long(&mut self, start: u32, n: u32) {
        let (index, from) = (start / GROUP_SLOTS, start % GROUP_SLOTS);
        let (head, whole, tail) = split(start, n);
        self.release_part(index, from, from + head);
        let last = index + whole.end;
        self.groups
            .get_mut((index + whole.start) as usize..last as usize)
            .unwrap_or_default()
            .fill(Group::FREE);
        self.release_part(last, 0, tail);
    }

    /// Frees slots of one group.
    fn release_part(&mut self, index: u32, from: u32, to: u32) {
        if let Some(group) = self.groups.get_mut(index as usize).filter(|_| from < to) {
            group.flip(from, to);
            group.lengthen(from, to);
        }
    }

    #[inline(always)]
    fn measure_stale(&mut self) {
        if self.stale != NONE {
            if let Some(group) = self.groups.get_mut(self.stale as usize) {
                group.longest = group.measure() as u8;
            }
            self.stale = NONE;
        }
    }
}
