//! Which slots are free: a bitmap, and for each word of it the longest run that starts there. First fit in address order, bounded work.
//!
//! A run is a maximal row of free slots. It belongs to the word in which it starts, however far it reaches; so words inside a long run own none.
//! For every word the books keep the length of the longest run that it owns, exactly. A search compares four of them at a time, and the
//! first word that has a run of the wanted length has the lowest such run.
//!
//! Taking and freeing change at most two of these lengths. That they can be had without counting slots rests on one fact: of the runs that a word
//! owns, only the last can reach into the next word, and then the others are shorter than 31 slots. So a longer length is the last run's, and shorter
//! ones can be read off two words. Nothing is put off, so no history of the pool can make a call dear.
//!
//! Slot 0 is the most significant bit of its word: PowerPC counts leading zeros in one instruction.

#[cfg(test)]
mod tests;

use core::hint::black_box;

/// Slots per group: bookkeeping memory comes in groups of four words and their lengths.
pub const GROUP_SLOTS: u32 = WORD * GROUP_WORDS as u32;
/// Words of the bitmap in a group, and lengths.
pub const GROUP_WORDS: usize = 4;
/// The most slots that the books can keep: two lengths are compared at a time, and the highest bit of each tells the result.
pub(crate) const MAX_SLOTS: u32 = 0x7FFF;
const WORD: u32 = 32;
/// A run of this length leaves its word no other that is as long, or else ends in it.
const SURELY_LAST: u32 = WORD - 1;

/// The highest bit of each of two lengths in a word.
const HIGHEST: u32 = 0x8000_8000;

/// For two lengths in a word whose highest bits have been set, what leaves the highest bit of each that was `n` or more when it is
/// subtracted, `n` being from 1 to [`MAX_SLOTS`] + 1. Nothing is borrowed from the other length.
const fn at_least(n: u32) -> u32 {
    n * 0x0001_0001
}

/// Finds the first of four words that owns a run of the length that `at_least` is for.
#[inline(always)]
fn find_in_group(longest: [u16; GROUP_WORDS], at_least: u32) -> Option<u32> {
    let [a, b, c, d] = longest.map(u32::from);
    let low = (a << 16 | b | HIGHEST) - at_least;
    let high = (c << 16 | d | HIGHEST) - at_least;
    if (low | high) & HIGHEST == 0 {
        None
    } else if low & HIGHEST != 0 {
        Some((low & HIGHEST).leading_zeros() / 16)
    } else {
        Some(2 + (high & HIGHEST).leading_zeros() / 16)
    }
}

/// A maximal row of free slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: u32,
    pub(crate) len: u32,
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

/// Returns the length of the longest row of set bits.
fn longest_in(word: u32) -> u32 {
    if word == u32::MAX {
        return WORD;
    }
    // Where rows of 2, 4, 8, 16 start. Then the longest of these are made longer by ever smaller pieces.
    let two = word & word << 1;
    if two == 0 {
        return u32::from(word != 0);
    }
    let extend = |(starts, len): (u32, u32), piece: u32, more: u32| {
        let longer = starts & piece << len;
        if longer == 0 {
            (starts, len)
        } else {
            (longer, len + more)
        }
    };
    let four = two & two << 2;
    if four == 0 {
        return extend((two, 2), word, 1).1;
    }
    let eight = four & four << 4;
    let rows = if eight == 0 {
        (four, 4)
    } else {
        let sixteen = eight & eight << 8;
        let rows = if sixteen == 0 {
            (eight, 8)
        } else {
            extend((sixteen, 16), eight, 8)
        };
        extend(rows, four, 4)
    };
    extend(extend(rows, two, 2), word, 1).1
}

/// The free slots of a pool.
pub(crate) struct Slots<'m> {
    /// A set bit is a free slot.
    words: &'m mut [u32],
    /// The longest run that starts in each word.
    longest: &'m mut [u16],
    /// No run starts in a word before this one.
    first: u32,
    total: u32,
    used: u32,
    /// The most that were ever used.
    most_used: u32,
}

impl<'m> Slots<'m> {
    /// Makes `total` slots, all free, or fewer if `words` and `longest` have no room for so many.
    pub(crate) fn new(words: &'m mut [u32], longest: &'m mut [u16], total: u32) -> Self {
        let groups = Self::groups(words, longest);
        let words = words.get_mut(..groups * GROUP_WORDS).unwrap_or_default();
        let longest = longest.get_mut(..groups * GROUP_WORDS).unwrap_or_default();
        words.fill(0);
        longest.fill(0);
        let total = total.min(groups as u32 * GROUP_SLOTS).min(MAX_SLOTS);
        let mut slots = Self {
            words,
            longest,
            first: 0,
            total,
            used: total,
            most_used: 0,
        };
        slots.release(0, total);
        slots
    }

    /// Returns how many groups there is room for, and a use.
    pub(crate) fn groups(words: &[u32], longest: &[u16]) -> usize {
        let most = MAX_SLOTS.div_ceil(GROUP_SLOTS) as usize;
        (words.len().min(longest.len()) / GROUP_WORDS).min(most)
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Returns the most slots that were ever taken at a time.
    pub(crate) fn high_water(&self) -> u32 {
        self.most_used
    }

    /// Takes the first `n` slots of the first run, from 1 to 31 of them, if that is easy: it mostly is. `None` says nothing.
    #[inline(always)]
    pub(crate) fn take_first(&mut self, n: u32) -> Option<u32> {
        let first = self.first;
        let longest = self.longest.get_mut(first as usize)?;
        if u32::from(*longest) < n + SURELY_LAST {
            return None;
        }
        // No run comes in from the word before, for none starts there.
        let word = self.words.get_mut(first as usize)?;
        let from = word.leading_zeros();
        let here = (*word << from).leading_ones();
        if here < n || from + n >= WORD {
            return None;
        }
        *word &= !((u32::MAX << (WORD - n)) >> from);
        if from + here == WORD {
            *longest -= n as u16;
        }
        self.count_taken(n);
        Some(first * WORD + from)
    }

    /// Takes the first `n` slots, 32 or more, of the first run, if it is the only one of its word and stays long. `None` says nothing.
    #[inline(always)]
    pub(crate) fn take_first_long(&mut self, n: u32) -> Option<u32> {
        let first = self.first;
        let word = *self.words.get(first as usize)?;
        let len = u32::from(*self.longest.get(first as usize)?);
        let from = word.leading_zeros();
        if len < n.saturating_add(SURELY_LAST) || from + (word << from).leading_ones() < WORD {
            return None;
        }
        let run = Run {
            start: first * WORD + from,
            len,
        };
        self.take_only(run, n);
        Some(run.start)
    }

    /// Takes the first `n` slots, 32 or more, of a run that its word owns alone.
    #[inline(never)]
    fn take_only(&mut self, run: Run, n: u32) {
        let end = run.start + n;
        self.count_taken(n);
        self.fill(run.start, end, false);
        self.set_longest(run.start / WORD, 0);
        self.set_longest(end / WORD, run.len - n);
        self.first = end / WORD;
    }

    #[inline(always)]
    fn count_taken(&mut self, n: u32) {
        self.used = self.used.wrapping_add(n);
        if self.used > self.most_used {
            self.most_used = self.used;
        }
    }

    /// Finds the first run of at least `n` slots, of at most [`MAX_SLOTS`], or returns the length of the longest.
    #[inline(always)]
    pub(crate) fn find(&self, n: u32) -> Result<Run, u32> {
        let mut number = self.first as usize / GROUP_WORDS;
        let groups = self.longest.as_chunks::<GROUP_WORDS>().0;
        let at_least = at_least(n);
        while let Some(group) = groups.get(number) {
            if let Some(within) = find_in_group(*group, at_least) {
                return Ok(self.first_in((number * GROUP_WORDS) as u32 + within, n));
            }
            number += 1;
        }
        Err(self.longest())
    }

    /// Returns the first run of at least `n` slots that starts in `word`, of which there is one.
    fn first_in(&self, word: u32, n: u32) -> Run {
        let bits = self.owned(word);
        let starts = run_starts(bits, n);
        // Within the word, or else the one that leaves it.
        if starts != 0 {
            let start = word * WORD + starts.leading_zeros();
            let len = self.measure(start);
            Run { start, len }
        } else {
            let here = bits.trailing_ones();
            Run {
                start: (word + 1) * WORD - here,
                len: self.measure_last(word, here),
            }
        }
    }

    /// Offers every run of at least `n` slots to `fit`, in address order, until it accepts one; or returns the length of the longest run.
    ///
    /// For requests that not every run suits. The work is bounded by the number of runs.
    pub(crate) fn find_fit<T>(
        &self,
        n: u32,
        mut fit: impl FnMut(Run) -> Option<T>,
    ) -> Result<(Run, T), u32> {
        for word in self.first..self.total.div_ceil(WORD) {
            if self.longest_of(word) < n {
                continue;
            }
            let mut bits = self.owned(word);
            while bits != 0 {
                let from = bits.leading_zeros();
                let start = word * WORD + from;
                let run = Run {
                    start,
                    len: self.measure(start),
                };
                if run.len >= n
                    && let Some(found) = fit(run)
                {
                    return Ok((run, found));
                }
                bits &= u32::MAX.checked_shr(from + run.len).unwrap_or(0);
            }
        }
        Err(self.longest())
    }

    /// Returns the length of the longest run.
    pub(crate) fn longest(&self) -> u32 {
        let (mut longest, mut more) = (0, at_least(1));
        for group in self.longest.as_chunks::<GROUP_WORDS>().0 {
            if find_in_group(*group, more).is_some() {
                longest = group.map(u32::from).into_iter().fold(longest, u32::max);
                more = at_least(longest + 1);
            }
        }
        longest
    }

    /// Takes the `n` slots from `at` on, all of them in `run`.
    #[inline(always)]
    pub(crate) fn take(&mut self, run: Run, at: u32, n: u32) {
        self.count_taken(n);
        self.fill(at, at + n, false);
        let word = run.start / WORD;
        // What is left of the run before and after.
        let (before, after) = (at - run.start, run.start + run.len - at - n);
        let next = (at + n) / WORD;
        let longest = self.longest_of(word);
        if before >= SURELY_LAST {
            self.set_longest(word, before);
        } else if next == word && after >= SURELY_LAST {
            self.set_longest(word, after);
        } else if run.len >= longest {
            let longest = self.count(word);
            self.set_longest(word, longest);
            if longest == 0 && word == self.first {
                self.first += 1;
            }
        }
        if next != word && after != 0 {
            self.set_longest(next, after.max(self.longest_of(next)));
        }
    }

    /// Frees `n` slots from `at` on, which the caller has taken.
    #[inline(always)]
    pub(crate) fn release(&mut self, at: u32, n: u32) {
        self.used = self.used.wrapping_sub(n);
        if n >= WORD || !self.release_within(at, n) {
            self.release_across(at, n);
        }
    }

    /// Frees slots of one word if that concerns no other word, as it mostly does; returns whether it did.
    #[inline(always)]
    fn release_within(&mut self, at: u32, n: u32) -> bool {
        let (index, bit) = (at / WORD, at % WORD);
        if bit + n >= WORD {
            return false;
        }
        let Some(word) = self.words.get_mut(index as usize) else {
            return false;
        };
        let Some(longest) = self.longest.get_mut(index as usize) else {
            return false;
        };
        let bits = *word | (u32::MAX << (WORD - n)) >> bit;
        let before = (bits >> (WORD - 1 - bit)).trailing_ones() - 1;
        let after = (bits << bit).leading_ones();
        if before == bit && index != 0 {
            // Does the run come in from the word before?
            return false;
        }
        let mut len = before + after;
        if bit + after == WORD {
            // The last run of the word.
            if u32::from(*longest) < SURELY_LAST {
                return false;
            }
            len = before + n + u32::from(*longest);
        }
        *word = bits;
        if len > u32::from(*longest) {
            *longest = len as u16;
        }
        self.first = self.first.min(index);
        true
    }

    /// Frees any slots.
    #[inline(never)]
    fn release_across(&mut self, at: u32, n: u32) {
        let end = at + n;
        let after = if self.is_free(end) {
            self.measure(end)
        } else {
            0
        };
        let start = match at.checked_sub(1) {
            Some(before) if self.is_free(before) => self.start_of(before),
            _ => at,
        };
        self.fill(at, end, true);
        let (word, next) = (start / WORD, end / WORD);
        // The run that started at `end` is part of another now.
        if after != 0 && next != word && after >= self.longest_of(next) {
            let longest = if end % WORD + after >= WORD {
                0
            } else {
                self.count(next)
            };
            self.set_longest(next, longest);
        }
        let len = end + after - start;
        self.set_longest(word, len.max(self.longest_of(word)));
        self.first = self.first.min(word);
    }

    /// Returns the start of the run that contains `slot`.
    fn start_of(&self, slot: u32) -> u32 {
        let (word, bit) = (slot / WORD, slot % WORD);
        let here = (self.bits(word) >> (WORD - 1 - bit)).trailing_ones() - 1;
        if here < bit || word == 0 || self.bits(word - 1) & 1 == 0 {
            return slot - here;
        }
        // Wholly free words that own no run lie inside one.
        let before = self.longest.get(..word as usize).unwrap_or_default();
        let owner = before.iter().rposition(|&len| len != 0).unwrap_or(0) as u32;
        (owner + 1) * WORD - self.bits(owner).trailing_ones()
    }

    /// Measures the run that starts at `start`.
    fn measure(&self, start: u32) -> u32 {
        let (word, bit) = (start / WORD, start % WORD);
        let here = (self.bits(word) << bit).leading_ones();
        if bit + here < WORD {
            return here;
        }
        self.measure_last(word, here)
    }

    /// Measures the run that starts in `word` with its last `here` slots.
    fn measure_last(&self, word: u32, here: u32) -> u32 {
        let longest = self.longest_of(word);
        if longest >= SURELY_LAST {
            longest
        } else {
            here + self.bits(word + 1).leading_ones()
        }
    }

    /// Counts the longest run that `word` owns, whose last one has fewer than [`SURELY_LAST`] slots.
    #[inline(always)]
    fn count(&self, word: u32) -> u32 {
        let bits = self.owned(word);
        let last = bits.trailing_ones();
        let reaches = if last == 0 {
            0
        } else {
            last + self.bits(word + 1).leading_ones()
        };
        reaches.max(longest_in(bits))
    }

    /// Returns the free slots of a word without those of a run that comes in from the word before.
    fn owned(&self, word: u32) -> u32 {
        let bits = self.bits(word);
        if bits >> (WORD - 1) != 0 && word != 0 && self.bits(word - 1) & 1 != 0 {
            bits & u32::MAX.checked_shr(bits.leading_ones()).unwrap_or(0)
        } else {
            bits
        }
    }

    fn is_free(&self, slot: u32) -> bool {
        self.bits(slot / WORD) << (slot % WORD) >> (WORD - 1) != 0
    }

    /// Returns the bits of a word; past the last, nothing is free.
    fn bits(&self, word: u32) -> u32 {
        self.words.get(word as usize).map_or(0, |word| *word)
    }

    fn longest_of(&self, word: u32) -> u32 {
        self.longest
            .get(word as usize)
            .map_or(0, |&len| u32::from(len))
    }

    fn set_longest(&mut self, word: u32, len: u32) {
        if let Some(longest) = self.longest.get_mut(word as usize) {
            *longest = len as u16;
        }
    }

    /// Makes the slots from `from` to `to` free, or taken.
    #[inline(always)]
    fn fill(&mut self, from: u32, to: u32, free: bool) {
        let (first, last) = (from / WORD, to / WORD);
        let head = u32::MAX >> (from % WORD);
        let tail = !(u32::MAX >> (to % WORD));
        if first == last {
            return self.fill_part(first, head & tail, free);
        }
        self.fill_part(first, head, free);
        if tail != 0 {
            self.fill_part(last, tail, free);
        }
        let between = self.words.get_mut(first as usize + 1..last as usize);
        // Hidden, lest it become a call of `memset`: these are mostly a few words.
        let value = black_box(if free { u32::MAX } else { 0 });
        for word in between.unwrap_or_default() {
            *word = value;
        }
    }

    #[inline(always)]
    fn fill_part(&mut self, word: u32, mask: u32, free: bool) {
        if let Some(word) = self.words.get_mut(word as usize) {
            *word = if free { *word | mask } else { *word & !mask };
        }
    }
}
