//! Every occupancy of small pools, against a model that is too simple to be wrong.

extern crate std;
use std::vec;
use std::vec::Vec;

use super::*;

/// Bookkeeping memory, with traces of an earlier use.
struct Memory(Vec<u32>, Vec<u16>);

impl Memory {
    fn new(groups: impl TryInto<usize>) -> Self {
        let words = groups.try_into().ok().unwrap() * GROUP_WORDS;
        Self(vec![0x1234_5678; words], vec![0x1234; words])
    }

    fn slots(&mut self, total: u32) -> Slots<'_> {
        Slots::new(&mut self.0, &mut self.1, total)
    }
}

/// The first run of `n` free slots, or the longest run.
fn naive(free: &[bool], n: usize) -> Result<u32, u32> {
    let mut longest = 0;
    let mut run = 0;
    for (slot, free) in free.iter().enumerate() {
        run = if *free { run + 1 } else { 0 };
        if run == n {
            return Ok((slot + 1 - n) as u32);
        }
        longest = longest.max(run);
    }
    Err(longest as u32)
}

/// Every maximal run of at least `n` free slots.
fn naive_runs(free: &[bool], n: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut start = 0;
    for slot in 0..=free.len() {
        if slot == free.len() || !free[slot] {
            if slot - start >= n && slot > start {
                runs.push(Run {
                    start: start as u32,
                    len: (slot - start) as u32,
                });
            }
            start = slot + 1;
        }
    }
    runs
}

/// Every maximal run.
fn naive_all(free: &[bool]) -> Vec<Run> {
    naive_runs(free, 1)
}

/// What the books say of every word, and of the whole.
fn check_books(slots: &Slots, free: &[bool]) {
    let mut longest = vec![0; free.len().div_ceil(32)];
    for run in naive_all(free) {
        let word = &mut longest[run.start as usize / 32];
        *word = run.len.max(*word);
    }
    for (word, longest) in longest.iter().enumerate() {
        assert_eq!(
            slots.longest_of(word as u32),
            *longest,
            "word {word} of {free:?}"
        );
    }
    let first = longest.iter().position(|longest| *longest != 0);
    assert!(slots.first as usize <= first.unwrap_or(longest.len()));
    let used = free.iter().filter(|free| !**free).count();
    assert_eq!(slots.used as usize, used);
}

/// Takes free slots wherever they are.
fn take(slots: &mut Slots, at: u32, n: u32) {
    let start = slots.start_of(at);
    let len = slots.measure(start);
    slots.take(Run { start, len }, at, n);
}

fn check_searches(slots: &mut Slots, free: &[bool], requests: impl Iterator<Item = usize>) {
    for n in requests {
        let mut runs = Vec::new();
        let longest = slots.find_fit(n as u32, |run| {
            runs.push(run);
            None::<()>
        });
        assert_eq!(runs, naive_runs(free, n), "runs of {n}");
        assert_eq!(
            longest.map(|_| ()),
            Err(naive(free, free.len() + 1).unwrap_err())
        );
        let found = slots.find(n as u32);
        assert_eq!(
            found.map(|run| run.start),
            naive(free, n),
            "{n} of {free:?}"
        );
        if let Ok(run) = found {
            assert!(naive_all(free).contains(&run));
        }
    }
}

/// Goes through all occupancies of the `width` slots from `first` on, one change at a time (Gray code), in a pool of `total` slots that is taken elsewhere.
fn exhaust(total: u32, first: u32, width: u32) {
    let mut memory = Memory::new(total.div_ceil(GROUP_SLOTS));
    let mut slots = memory.slots(total);
    let mut free = vec![false; total as usize];
    take(&mut slots, 0, total);
    for step in 1u32..1 << width {
        let slot = first + step.trailing_zeros();
        let place = &mut free[slot as usize];
        *place = !*place;
        if *place {
            slots.release(slot, 1);
        } else {
            take(&mut slots, slot, 1);
        }
        check_books(&slots, &free);
        check_searches(&mut slots, &free, 1..=width as usize + 1);
    }
}

#[test]
fn every_occupancy_of_12_slots_is_searched_exactly_wherever_they_lie() {
    // By themselves, across a word's end, across a group's end, at a pool's ragged end.
    for (total, first) in [(12, 0), (64, 26), (256, 122), (140, 128)] {
        exhaust(total, first, 12);
    }
}

#[test]
fn runs_of_any_length_at_any_place_are_found_and_taken_whole() {
    const TOTAL: u32 = 400;
    let mut memory = Memory::new(4);
    for start in (0..TOTAL).step_by(7).chain([31, 32, 127, 128, 255, 256]) {
        for len in [
            1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 130, 200, 256, 257, 400,
        ] {
            if start + len > TOTAL {
                continue;
            }
            let mut slots = memory.slots(TOTAL);
            let mut free = vec![false; TOTAL as usize];
            take(&mut slots, 0, TOTAL);
            slots.release(start, len);
            free[start as usize..(start + len) as usize].fill(true);
            check_books(&slots, &free);
            check_searches(
                &mut slots,
                &free,
                [1, len as usize, len as usize + 1].into_iter(),
            );
            assert_eq!(slots.find(len), Ok(Run { start, len }));
            take(&mut slots, start, len);
            free.fill(false);
            check_books(&slots, &free);
        }
    }
}

#[test]
fn pools_of_every_size_start_free_and_end_where_they_end() {
    let mut memory = Memory::new(3);
    for total in 1..=384 {
        let slots = memory.slots(total);
        check_books(&slots, &vec![true; total as usize]);
        assert_eq!(
            slots.find(total),
            Ok(Run {
                start: 0,
                len: total
            })
        );
        assert_eq!(slots.find(total + 1), Err(total));
    }
    assert_eq!(memory.slots(1000).total(), 384);
}

#[test]
fn the_quick_way_takes_what_the_search_finds() {
    let mut memory = Memory::new(2);
    let mut quick = 0;
    // Every occupancy of the first 6 slots of a word, before a long run, a short one, and none.
    for offset in [0, 20, 32, 40, 96] {
        for rest in [0, 3, 60, 100] {
            for pattern in 0u32..1 << 6 {
                for n in (1..=33).chain([64, 69, 70]) {
                    let mut slots = memory.slots(256);
                    take(&mut slots, 0, 256);
                    for slot in (0..6).filter(|slot| pattern >> slot & 1 != 0) {
                        slots.release(offset + slot, 1);
                    }
                    if rest != 0 {
                        slots.release(offset + 10, rest);
                    }
                    let found = slots.find(n).map(|run| run.start).ok();
                    let taken = if n < 32 {
                        slots.take_first(n)
                    } else {
                        slots.take_first_long(n)
                    };
                    if let Some(start) = taken {
                        assert_eq!(Some(start), found);
                        quick += 1;
                        let mut free = vec![false; 256];
                        for slot in (0..6).filter(|slot| pattern >> slot & 1 != 0) {
                            free[(offset + slot) as usize] = true;
                        }
                        free[(offset + 10) as usize..(offset + 10 + rest) as usize].fill(true);
                        free[start as usize..(start + n) as usize].fill(false);
                        check_books(&slots, &free);
                    }
                }
            }
        }
    }
    assert!(quick > 1000);
}

#[test]
fn the_longest_row_of_a_word_is_measured_exactly() {
    let naive = |word: u32| {
        (1..=32)
            .rev()
            .find(|&n| run_starts(word, n) != 0)
            .unwrap_or(0)
    };
    for pattern in 0..1u32 << 12 {
        for word in [
            pattern,
            pattern << 16,
            pattern << 9 | 0x1FF,
            !pattern,
            pattern << 16 | 0xFFFF,
        ] {
            assert_eq!(longest_in(word), naive(word), "{word:#034b}");
        }
    }
    // And what is tested with: one row at each place.
    for n in 1..=32 {
        for at in 0..=32 - n {
            let word = u32::MAX << (32 - n) >> at;
            assert_eq!((longest_in(word), run_starts(word, n)), (n, 1 << 31 >> at));
            assert_eq!(run_starts(word, n + 1), 0);
        }
    }
}

#[test]
fn any_slots_of_a_run_can_be_taken_and_given_back() {
    let mut memory = Memory::new(8);
    let mut slots = memory.slots(1024);
    let mut free = vec![true; 1024];
    let mut state = 1u32;
    for _ in 0..3000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = 1 + (state >> 16) % 150;
        let start = (state >> 8) % (1024 - n);
        let range = start as usize..(start + n) as usize;
        if free[range.clone()].iter().all(|free| *free) {
            take(&mut slots, start, n);
            free[range].fill(false);
        } else if !free[range.clone()].iter().any(|free| *free) {
            slots.release(start, n);
            free[range].fill(true);
        }
        check_books(&slots, &free);
    }
}
