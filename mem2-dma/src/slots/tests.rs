//! Every occupancy of small pools, against a model that is too simple to be wrong.

extern crate std;
use std::vec;
use std::vec::Vec;

use super::*;

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
fn naive_runs(free: &[bool], n: usize) -> Vec<(u32, u32)> {
    let mut runs = Vec::new();
    let mut start = 0;
    for slot in 0..=free.len() {
        if slot == free.len() || !free[slot] {
            if slot - start >= n && slot > start {
                runs.push((start as u32, (slot - start) as u32));
            }
            start = slot + 1;
        }
    }
    runs
}

/// What the summaries promise.
fn check_summaries(slots: &Slots, free: &[bool]) {
    for (index, group) in slots.groups.iter().enumerate() {
        let at = |slot: usize| free.get(index * 128 + slot).copied().unwrap_or(false);
        let own: Vec<bool> = (0..128).map(at).collect();
        let prefix = own.iter().take_while(|free| **free).count();
        let suffix = own.iter().rev().take_while(|free| **free).count();
        let longest = naive(&own, 129).unwrap_err();
        assert_eq!(
            (group.prefix as usize, group.suffix as usize),
            (prefix, suffix)
        );
        if slots.stale == index as u32 {
            assert!(u32::from(group.longest) >= longest);
        } else {
            assert_eq!(u32::from(group.longest), longest, "group {index}");
        }
    }
    assert_eq!(
        slots.free as usize,
        free.iter().filter(|free| **free).count()
    );
}

fn check_searches(slots: &mut Slots, free: &[bool], requests: impl Iterator<Item = usize>) {
    for n in requests {
        let mut runs = Vec::new();
        let longest = slots.find_fit(n as u32, |start, len| {
            runs.push((start, len));
            None::<()>
        });
        assert_eq!(runs, naive_runs(free, n), "runs of {n}");
        assert_eq!(longest, Err(naive(free, free.len() + 1).unwrap_err()));
        assert_eq!(slots.find(n as u32), naive(free, n), "{n} of {free:?}");
    }
}

/// Goes through all occupancies of the `width` slots from `first` on, one change at a time (Gray code), in a pool of `total` slots that is taken elsewhere.
fn exhaust(total: u32, first: u32, width: u32) {
    let mut groups = vec![Group::FULL; total.div_ceil(GROUP_SLOTS) as usize];
    let mut slots = Slots::new(&mut groups, total);
    let mut free = vec![false; total as usize];
    slots.take(0, total);
    for step in 1u32..1 << width {
        let slot = first + step.trailing_zeros();
        let place = &mut free[slot as usize];
        *place = !*place;
        if *place {
            slots.release(slot, 1);
        } else {
            slots.take(slot, 1);
        }
        check_summaries(&slots, &free);
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
    let mut groups = vec![Group::FULL; 4];
    for start in (0..TOTAL).step_by(7).chain([31, 32, 127, 128, 255, 256]) {
        for len in [
            1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 130, 200, 256, 257, 400,
        ] {
            if start + len > TOTAL {
                continue;
            }
            let mut slots = Slots::new(&mut groups, TOTAL);
            let mut free = vec![false; TOTAL as usize];
            slots.take(0, TOTAL);
            slots.release(start, len);
            free[start as usize..(start + len) as usize].fill(true);
            check_summaries(&slots, &free);
            check_searches(
                &mut slots,
                &free,
                [1, len as usize, len as usize + 1].into_iter(),
            );
            assert_eq!(slots.find(len), Ok(start));
            slots.take(start, len);
            free.fill(false);
            check_summaries(&slots, &free);
        }
    }
}

#[test]
fn pools_of_every_size_start_free_and_end_where_they_end() {
    let mut groups = vec![Group::FULL; 3];
    for total in 1..=384 {
        let mut slots = Slots::new(&mut groups, total);
        check_summaries(&slots, &vec![true; total as usize]);
        assert_eq!(slots.find(total), Ok(0));
        assert_eq!(slots.find(total + 1), Err(total));
    }
    assert_eq!(Slots::new(&mut groups, 1000).total(), 384);
}

#[test]
fn at_most_one_group_is_ever_measured_late() {
    let mut groups = vec![Group::FULL; 8];
    let mut slots = Slots::new(&mut groups, 1024);
    let mut free = vec![true; 1024];
    let mut state = 1u32;
    for _ in 0..3000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = 1 + (state >> 16) % 150;
        let start = (state >> 8) % (1024 - n);
        let range = start as usize..(start + n) as usize;
        if free[range.clone()].iter().all(|free| *free) {
            slots.take(start, n);
            free[range].fill(false);
        } else if !free[range.clone()].iter().any(|free| *free) {
            slots.release(start, n);
            free[range].fill(true);
        }
        check_summaries(&slots, &free);
    }
}
