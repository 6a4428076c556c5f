//! The frame list: the isochronous descriptors of each frame in front of the tree of interrupt queue heads (section 4.6).
//!
//! A descriptor serves one frame once. It goes in at the front of its frame's list, in one store that the controller sees
//! whole, and comes out by its predecessor's link; its own link stays, so that a controller that is just there finds its way.

use crate::ITDS;
use crate::layout::{Descriptors, FRAMES, Itd, Link, itd};
use crate::memory::Coherent;

const NONE: u8 = u8::MAX;

/// The isochronous descriptors that each frame leads to.
#[derive(Debug)]
pub struct Frames {
    first: [u8; FRAMES],
    /// The one behind each, in the same frame.
    next: [u8; ITDS],
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// Returns a list without isochronous descriptors.
    pub const fn new() -> Self {
        Self {
            first: [NONE; FRAMES],
            next: [NONE; ITDS],
        }
    }

    /// Sets what a frame's isochronous descriptors lead to, or the frame itself if it has none.
    pub fn end_with<M: Coherent>(&self, memory: &Descriptors<M>, frame: u16, link: Link) {
        let mut last = NONE;
        for at in self.of(frame) {
            last = at;
        }
        if last == NONE {
            memory.set_frame(frame.into(), link);
        } else if memory.load_itd(Itd(last), itd::NEXT) != link.0 {
            memory.store_itd(Itd(last), itd::NEXT, link.0);
        }
    }

    /// Puts a filled descriptor in front of a frame's list; `link` leads to it. It is in no frame yet.
    pub fn insert<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        frame: u16,
        new: Itd,
        link: Link,
    ) {
        let (Some(first), Some(next)) = (
            self.first.get_mut(usize::from(frame)),
            self.next.get_mut(usize::from(new.0)),
        ) else {
            return;
        };
        *next = core::mem::replace(first, new.0);
        memory.store_itd(new, itd::NEXT, memory.frame(frame.into()).0);
        // The controller must not arrive at a descriptor whose contents are still on their way.
        memory.barrier();
        memory.set_frame(frame.into(), link);
    }

    /// Takes a descriptor out of a frame's list. The controller may visit it until the frame is over.
    pub fn remove<M: Coherent>(&mut self, memory: &Descriptors<M>, frame: u16, old: Itd) {
        let before = self
            .of(frame)
            .find(|&at| self.behind(at) == old.0)
            .unwrap_or(NONE);
        let behind = self.behind(old.0);
        let link = memory.load_itd(old, itd::NEXT);
        if let Some(entry) = self.next.get_mut(usize::from(before)) {
            *entry = behind;
            memory.store_itd(Itd(before), itd::NEXT, link);
        } else if let Some(first) = self.first.get_mut(usize::from(frame))
            && *first == old.0
        {
            *first = behind;
            memory.set_frame(frame.into(), Link(link));
        }
        memory.barrier();
    }

    /// The descriptors of a frame, in order.
    fn of(&self, frame: u16) -> impl Iterator<Item = u8> + '_ {
        let first = self.first.get(usize::from(frame)).copied().unwrap_or(NONE);
        core::iter::successors(Some(first), |&at| Some(self.behind(at)))
            .take_while(|&at| at != NONE)
            .take(ITDS)
    }

    fn behind(&self, at: u8) -> u8 {
        self.next.get(usize::from(at)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Qh;
    use crate::testing::Block;

    /// What the controller finds in a frame: the numbers of its isochronous descriptors, and where they lead to.
    fn visits(memory: &Descriptors<Block>, frame: usize) -> (Vec<u8>, Link) {
        let mut seen = vec![];
        let mut link = memory.frame(frame);
        while !link.terminate() && link.kind() == 0 {
            let index = (link.bus_address() - memory.itd_bus(Itd(0))) as usize / itd::STRIDE;
            assert!(seen.len() < ITDS, "endless");
            seen.push(index as u8);
            link = Link(memory.load_itd(Itd(index as u8), itd::NEXT));
        }
        (seen, link)
    }

    fn insert(memory: &Descriptors<Block>, frames: &mut Frames, frame: u16, index: u8) {
        let link = Link::itd(memory.itd_bus(Itd(index)));
        frames.insert(memory, frame, Itd(index), link);
    }

    #[test]
    fn isochronous_descriptors_come_before_the_tree_in_their_frame_and_in_no_other() {
        let memory = crate::testing::descriptors();
        let mut frames = Frames::new();
        let tree = Link::queue_head(memory.qh_bus(Qh(1)));
        for frame in 0..FRAMES as u16 {
            frames.end_with(&memory, frame, tree);
        }
        insert(&memory, &mut frames, 7, 3);
        insert(&memory, &mut frames, 7, 60);
        insert(&memory, &mut frames, 1023, 5);
        assert_eq!(visits(&memory, 7), (vec![60, 3], tree));
        assert_eq!(visits(&memory, 1023), (vec![5], tree));
        assert_eq!(visits(&memory, 8), (vec![], tree));
    }

    #[test]
    fn the_tree_changes_behind_the_isochronous_descriptors_of_a_frame() {
        let memory = crate::testing::descriptors();
        let mut frames = Frames::new();
        let old = Link::queue_head(memory.qh_bus(Qh(1)));
        let new = Link::queue_head(memory.qh_bus(Qh(2)));
        frames.end_with(&memory, 7, old);
        insert(&memory, &mut frames, 7, 3);
        insert(&memory, &mut frames, 7, 4);
        frames.end_with(&memory, 7, new);
        assert_eq!(visits(&memory, 7), (vec![4, 3], new));
        frames.remove(&memory, 7, Itd(3));
        assert_eq!(visits(&memory, 7), (vec![4], new));
        frames.remove(&memory, 7, Itd(4));
        assert_eq!(visits(&memory, 7), (vec![], new));
    }

    #[test]
    fn what_was_removed_still_leads_to_the_rest_of_its_frame() {
        let memory = crate::testing::descriptors();
        let mut frames = Frames::new();
        let tree = Link::queue_head(memory.qh_bus(Qh(1)));
        frames.end_with(&memory, 7, tree);
        for index in [1, 2, 3] {
            insert(&memory, &mut frames, 7, index);
        }
        frames.remove(&memory, 7, Itd(2));
        assert_eq!(visits(&memory, 7), (vec![3, 1], tree));
        let link = Link(memory.load_itd(Itd(2), itd::NEXT));
        assert_eq!(link.bus_address(), memory.itd_bus(Itd(1)));
    }

    #[test]
    fn removing_what_is_not_in_the_frame_changes_nothing() {
        let memory = crate::testing::descriptors();
        let mut frames = Frames::new();
        let tree = Link::queue_head(memory.qh_bus(Qh(1)));
        frames.end_with(&memory, 7, tree);
        insert(&memory, &mut frames, 7, 3);
        frames.remove(&memory, 7, Itd(9));
        frames.remove(&memory, 8, Itd(3));
        assert_eq!(visits(&memory, 7), (vec![3], tree));
    }
}
