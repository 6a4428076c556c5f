//! The capacity test: is the stick as large as it says?
//!
//! Sticks that lie answer for blocks that do not exist: they map them onto others, or forget what is
//! written there. So this test writes bytes that follow from their place, all over the stick, and only
//! then reads them back. It destroys what was there, and restores nothing.

use core::fmt;

use super::{Run, Stick};
use crate::block::BlockDevice;
use crate::pattern;
use crate::report::Sink;

/// Places that the quick test looks at.
const QUICK_PLACES: u64 = 1024;

/// Bytes at each place of the quick test.
const QUICK_BYTES: usize = 4096;

/// How the capacity of a stick is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// What is written follows from it; see [`pattern`].
    pub seed: u64,
    /// Every block is written and read, not only some all over the stick.
    pub full: bool,
}

/// A stick that does not keep what is written to it.
struct Lies {
    /// Blocks that it claims to have.
    claimed: u64,
    /// What was written before this block came back.
    good: u64,
    /// What was written at this block did not.
    bad: u64,
}

impl fmt::Display for Lies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the stick claims {} blocks, but does not keep what is written from block {} on (below {} it does): do not trust it",
            self.claimed, self.bad, self.good
        )
    }
}

/// The places of a test: pieces of `blocks` blocks, `count` of them all over the stick.
#[derive(Clone, Copy)]
struct Places {
    count: u64,
    /// Blocks of a piece.
    blocks: u64,
    /// Last block at which a piece can begin.
    last: u64,
}

impl Places {
    fn new(capacity: u64, piece: u64, full: bool) -> Self {
        let blocks = piece.min(capacity).max(1);
        let all = capacity.div_ceil(blocks);
        Self {
            count: if full { all } else { all.min(QUICK_PLACES) },
            blocks,
            last: capacity.saturating_sub(blocks),
        }
    }

    /// First block of the piece of this number: the first is at the start, the last at the end.
    fn at(self, number: u64) -> u64 {
        let gaps = self.count.saturating_sub(1).max(1);
        // In this order it neither overflows nor loses the end.
        let (step, rest) = (self.last / gaps, self.last % gaps);
        number * step + number * rest / gaps
    }
}

impl<S: Sink> Run<'_, S> {
    /// Overwrites the stick, reads it back, and reports what is wrong.
    pub(super) async fn test_capacity<D: BlockDevice>(&mut self, mut device: D, test: &Capacity) {
        match device.is_write_protected().await {
            Ok(false) => {}
            Ok(true) => {
                let message = "the stick is write-protected: nothing was written";
                return self.report.error(None, None, &message);
            }
            Err(error) => return self.report.error(None, None, &error),
        }
        let size = u64::from(device.block_size().max(1));
        let capacity = device.blocks();
        let bytes = match test.full {
            true => self.buffer.len(),
            false => QUICK_BYTES.min(self.buffer.len()),
        };
        let places = Places::new(capacity, bytes as u64 / size, test.full);
        if capacity == 0 || places.blocks * size > self.buffer.len() as u64 {
            return self.report.error(None, None, &"the stick has no blocks");
        }
        let piece = (places.blocks * size) as usize;
        self.progress.total = 2 * places.count * piece as u64;
        // The first place at which a write failed: what is behind it is not asked for again.
        let mut bad = None;
        let mut written = 0;
        while written < places.count && bad.is_none() {
            let block = places.at(written);
            pattern::fill(
                test.seed,
                block.wrapping_mul(size),
                &mut self.buffer[..piece],
            );
            match device.write(block, &self.buffer[..piece]).await {
                Ok(()) => written += 1,
                Err(error) => {
                    self.report.error(None, Some(block), &error);
                    if Stick::after(error.is_local()) == Stick::Dead {
                        return;
                    }
                    bad = Some(block);
                }
            }
            self.advance(piece as u64);
        }
        if let Err(error) = device.flush().await {
            return self.report.error(None, None, &error);
        }
        let mut good = 0;
        for number in 0..written {
            let block = places.at(number);
            let read = device.read(block, &mut self.buffer[..piece]).await;
            if let Err(error) = &read {
                self.report.error(None, Some(error.block), error);
                if Stick::after(error.is_local()) == Stick::Dead {
                    return;
                }
            }
            let position = block.wrapping_mul(size);
            let difference = pattern::first_difference(test.seed, position, &self.buffer[..piece]);
            if read.is_err() || difference.is_some() {
                let at = block + difference.unwrap_or(0) as u64 / size;
                // A place that another was mapped onto comes before those that do not exist.
                bad = Some(bad.map_or(at, |bad| bad.min(at)));
                break;
            }
            good = block + places.blocks;
            self.advance(piece as u64);
        }
        match bad {
            Some(bad) => {
                let claimed = capacity;
                let lies = Lies { claimed, good, bad };
                self.report.error(None, Some(bad), &lies);
            }
            None => info!("the stick is as large as it says; its contents are gone"),
        }
        self.progress.report((self.clock)(), &mut self.report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Task;
    use crate::testing::*;
    use std::vec;
    use std::vec::Vec;

    fn run(stick: &mut RamStick, full: bool) -> Outcome {
        let test = Capacity { seed: 9, full };
        embassy_futures::block_on(run_async(stick, Task::Capacity(test)))
    }

    #[test]
    fn places_begin_at_the_start_and_end_at_the_end() {
        for (capacity, piece, full) in [
            (1, 8, true),
            (1, 8, false),
            (9, 8, true),
            (2048, 256, true),
            (100_000, 8, false),
            (u64::MAX, 8, false),
        ] {
            let places = Places::new(capacity, piece, full);
            assert_eq!(places.at(0), 0);
            if places.count > 1 {
                let end = places.at(places.count - 1) + places.blocks;
                assert_eq!(end, capacity);
            }
            let starts: Vec<_> = (0..places.count).map(|number| places.at(number)).collect();
            assert!(starts.is_sorted());
            if full {
                let gap = |pair: &[u64]| pair[1] - pair[0] > places.blocks;
                assert!(!starts.windows(2).any(gap));
            }
        }
    }

    #[test]
    fn an_honest_stick_passes_and_is_overwritten() {
        for full in [false, true] {
            for block_size in [512, 4096] {
                let mut stick = RamStick::new(block_size, vec![0; 1 << 20]);
                let outcome = run(&mut stick, full);
                assert_eq!(outcome.errors(), []);
                let mut whole = vec![0; 1 << 20];
                pattern::fill(9, 0, &mut whole);
                let same = stick.data == whole;
                assert!(same || !full, "every block is written");
            }
        }
    }

    #[test]
    fn a_stick_that_maps_blocks_onto_others_is_found_out() {
        for full in [false, true] {
            let mut stick = RamStick::new(512, vec![0; 1 << 20]);
            stick.claims = Some(16 << 10);
            stick.real_blocks = Some(2 << 10);
            let outcome = run(&mut stick, full);
            assert_eq!(outcome.errors().len(), 1);
            let message = &outcome.errors()[0].2;
            assert!(message.contains("claims 16384 blocks"), "{message}");
        }
    }

    #[test]
    fn a_stick_that_forgets_what_is_beyond_its_end_is_found_out() {
        for full in [false, true] {
            let mut stick = RamStick::new(512, vec![0; 4 << 20]);
            stick.spoils_from = Some(3000);
            let outcome = run(&mut stick, full);
            let (_, block, message) = &outcome.errors()[0];
            let block = block.unwrap();
            assert!((3000..3020).contains(&block), "{block}");
            assert!(message.contains("does not keep"), "{message}");
        }
    }

    #[test]
    fn nothing_is_written_to_a_protected_stick() {
        let mut stick = RamStick::new(512, vec![0; 1 << 20]);
        stick.protected = Some(true);
        let outcome = run(&mut stick, true);
        assert!(outcome.errors()[0].2.contains("write-protected"));
        assert_eq!(stick.writes, []);
    }
}
