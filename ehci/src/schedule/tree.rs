//! The periodic schedule: interrupt queue heads behind the frame list (sections 4.4 and 4.6 of the EHCI specification).
//!
//! A queue head with a period of 2^n frames and a phase is visited in the frames `phase + k * 2^n`. Every frame's list
//! runs from long periods to short ones and ends at a dummy that is never active, which every frame thus reaches: on
//! silicon related to Hollywood's a frame list entry with the terminate bit makes the controller access memory that is
//! not its own (hardware notes, section 3.2).
//!
//! Because a shorter period divides a longer one, all frames that meet at a queue head agree on what comes after it, and
//! one link in each suffices. The lists are computed afresh at every change; only words that change are stored.

use super::frames::Frames;
use crate::QUEUE_HEADS;
use crate::layout::{Capabilities, Characteristics, Descriptors, FRAMES, Link, Qh, qh};
use crate::memory::Coherent;

/// The queue head at the end of every frame's list.
pub const DUMMY: Qh = Qh(1);

/// When a queue head is visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Frames from one visit to the next, a power of two up to [`FRAMES`].
    pub period: u16,
    /// The first frame, below `period`.
    pub phase: u16,
}

impl Slot {
    const fn meets(self, frame: u16) -> bool {
        // The period is a power of two; a remainder would have to think of zero.
        frame & self.period.wrapping_sub(1) == self.phase
    }
}

/// Membership of the periodic schedule.
#[derive(Debug)]
pub struct Tree {
    slots: [Option<Slot>; QUEUE_HEADS],
}

impl Tree {
    /// Writes the dummy and lets every frame lead to it.
    pub fn new<M: Coherent>(memory: &Descriptors<M>, frames: &Frames) -> Self {
        let mut characteristics = Characteristics(0);
        characteristics.set_speed(2);
        characteristics.set_max_packet(64);
        let mut capabilities = Capabilities(0);
        capabilities.set_mult(1);
        // A zero start mask would make it asynchronous (section 3.6.2); halted, it is never executed in any case.
        capabilities.set_start_mask(1);
        memory.init_qh(DUMMY, characteristics, capabilities, true);
        let tree = Self {
            slots: [None; QUEUE_HEADS],
        };
        tree.write(memory, frames);
        tree
    }

    /// Whether a queue head is in the schedule.
    pub fn is_linked(&self, qh: Qh) -> bool {
        self.slot(qh).is_some()
    }

    /// Whether no queue head is in the schedule.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Inserts an initialised queue head.
    ///
    /// Refuses, by returning false, a slot that is not a power of two or whose phase is outside its period, and a queue
    /// head that is already there.
    pub fn link<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        frames: &Frames,
        new: Qh,
        slot: Slot,
    ) -> bool {
        let valid = slot.period.is_power_of_two()
            && usize::from(slot.period) <= FRAMES
            && slot.phase < slot.period;
        let Some(entry) = self.slots.get_mut(usize::from(new.0)) else {
            return false;
        };
        if !valid || entry.is_some() || new == DUMMY {
            return false;
        }
        *entry = Some(slot);
        // The new queue head must lead on before anything leads to it.
        let next = self.after(new, slot);
        memory.store_qh(new, qh::HORIZONTAL, Link::queue_head(memory.qh_bus(next)).0);
        memory.barrier();
        self.write(memory, frames);
        true
    }

    /// Takes a queue head out. The controller may visit it until the frame that is running has ended, and its cached
    /// copy of the frame list's entry for one frame more.
    pub fn unlink<M: Coherent>(&mut self, memory: &Descriptors<M>, frames: &Frames, old: Qh) {
        if let Some(entry) = self.slots.get_mut(usize::from(old.0)) {
            *entry = None;
        }
        self.write(memory, frames);
    }

    fn slot(&self, qh: Qh) -> Option<Slot> {
        self.slots.get(usize::from(qh.0)).copied().flatten()
    }

    fn members(&self) -> impl Iterator<Item = (Qh, Slot)> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((Qh(index as u8), (*slot)?)))
    }

    /// The longest period first, and the order of numbers among equals.
    fn rank(qh: Qh, slot: Slot) -> u32 {
        (FRAMES as u32 - u32::from(slot.period)) << 8 | u32::from(qh.0)
    }

    fn first(&self, frame: u16) -> Qh {
        self.members()
            .filter(|(_, slot)| slot.meets(frame))
            .min_by_key(|&(qh, slot)| Self::rank(qh, slot))
            .map_or(DUMMY, |(qh, _)| qh)
    }

    fn after(&self, qh: Qh, slot: Slot) -> Qh {
        self.members()
            .filter(|(_, other)| other.meets(slot.phase))
            .filter(|&(other, at)| {
                Self::rank(other, at) > Self::rank(qh, slot) && at.period <= slot.period
            })
            .min_by_key(|&(other, at)| Self::rank(other, at))
            .map_or(DUMMY, |(other, _)| other)
    }

    fn write<M: Coherent>(&self, memory: &Descriptors<M>, frames: &Frames) {
        for (qh, slot) in self.members() {
            let link = Link::queue_head(memory.qh_bus(self.after(qh, slot)));
            if memory.load_qh(qh, qh::HORIZONTAL) != link.0 {
                memory.store_qh(qh, qh::HORIZONTAL, link.0);
            }
        }
        memory.barrier();
        for frame in 0..FRAMES as u16 {
            let link = Link::queue_head(memory.qh_bus(self.first(frame)));
            frames.end_with(memory, frame, link);
        }
        memory.barrier();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Block;

    fn fixture() -> (Descriptors<Block>, Tree) {
        let memory = crate::testing::descriptors();
        let tree = Tree::new(&memory, &Frames::new());
        (memory, tree)
    }

    fn visits(memory: &Descriptors<Block>, frame: usize) -> Vec<u8> {
        let mut seen = vec![];
        let mut link = memory.frame(frame);
        while !link.terminate() {
            assert_eq!(link.kind(), 1);
            let index = (link.bus_address() - memory.qh_bus(Qh(0))) as usize / qh::STRIDE;
            assert!(seen.len() < QUEUE_HEADS, "endless");
            seen.push(index as u8);
            link = Link(memory.load_qh(Qh(index as u8), qh::HORIZONTAL));
        }
        seen
    }

    #[test]
    fn every_entry_of_an_empty_list_is_the_inactive_dummy_and_none_is_terminated() {
        let (memory, _) = fixture();
        for frame in 0..FRAMES {
            assert_eq!(visits(&memory, frame), [1]);
        }
        assert_eq!(memory.overlay_token(DUMMY).0, 0x40);
    }

    #[test]
    fn a_queue_head_is_visited_in_its_frames_and_in_no_other() {
        let (memory, mut tree) = fixture();
        for (qh, period, phase) in [
            (4, 8, 3),
            (2, 1, 0),
            (5, 2, 1),
            (3, 8, 3),
            (6, 1024, 1023),
            (7, 2, 0),
        ] {
            assert!(tree.link(&memory, &Frames::new(), Qh(qh), Slot { period, phase }));
        }
        for frame in 0..FRAMES {
            let mut expected = vec![];
            if frame == 1023 {
                expected.push(6);
            }
            if frame % 8 == 3 {
                expected.extend([3, 4]);
            }
            expected.push(if frame % 2 == 1 { 5 } else { 7 });
            expected.extend([2, 1]);
            assert_eq!(visits(&memory, frame), expected, "frame {frame}");
        }
    }

    #[test]
    fn what_is_unlinked_is_visited_no_more_and_the_rest_stays() {
        let (memory, mut tree) = fixture();
        assert!(tree.link(
            &memory,
            &Frames::new(),
            Qh(2),
            Slot {
                period: 4,
                phase: 1
            }
        ));
        assert!(tree.link(
            &memory,
            &Frames::new(),
            Qh(3),
            Slot {
                period: 2,
                phase: 1
            }
        ));
        tree.unlink(&memory, &Frames::new(), Qh(2));
        assert_eq!(visits(&memory, 1), [3, 1]);
        assert_eq!(visits(&memory, 2), [1]);
        tree.unlink(&memory, &Frames::new(), Qh(3));
        assert!(tree.is_empty());
        assert_eq!(visits(&memory, 1), [1]);
    }

    #[test]
    fn periods_that_are_no_power_of_two_and_phases_outside_are_refused() {
        let (memory, mut tree) = fixture();
        for (period, phase) in [(0, 0), (3, 0), (2048, 0), (4, 4)] {
            assert!(!tree.link(&memory, &Frames::new(), Qh(2), Slot { period, phase }));
        }
        assert!(tree.is_empty());
    }
}
