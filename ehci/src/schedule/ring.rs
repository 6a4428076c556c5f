//! The asynchronous schedule: a ring of queue heads (sections 4.8 and 4.8.2 of the EHCI specification).
//!
//! The ring always holds its head, a halted queue head with nothing to do. A queue head that is taken out may still be
//! in the controller's hands; it passes through two stations before its memory may be used again: *waiting* for a
//! doorbell to be rung after the unlink, and *rung*, until the controller answers that doorbell. One doorbell serves
//! all that wait when it is rung; those unlinked later wait for the next.

use crate::QUEUE_HEADS;
use crate::layout::{Capabilities, Characteristics, Descriptors, Link, Qh, qh};
use crate::memory::Coherent;

/// The queue head that is always in the ring.
pub const HEAD: Qh = Qh(0);

/// A set of queue heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QhSet(u32);

impl QhSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a queue head is in the set.
    pub const fn contains(self, qh: Qh) -> bool {
        (qh.0 as usize) < QUEUE_HEADS && self.0 & 1 << qh.0 != 0
    }

    /// Adds a queue head.
    pub const fn insert(&mut self, qh: Qh) {
        if (qh.0 as usize) < QUEUE_HEADS {
            self.0 |= 1 << qh.0;
        }
    }

    /// Removes a queue head.
    pub const fn remove(&mut self, qh: Qh) {
        if (qh.0 as usize) < QUEUE_HEADS {
            self.0 &= !(1 << qh.0);
        }
    }

    /// Returns the members of both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Iterator for QhSet {
    type Item = Qh;

    fn next(&mut self) -> Option<Qh> {
        let qh = Qh(self.0.trailing_zeros() as u8);
        let found = self.contains(qh);
        self.remove(qh);
        found.then_some(qh)
    }
}

/// Membership of the ring and the stations behind it.
#[derive(Debug)]
pub struct Ring {
    /// The queue head that each member links to.
    successor: [Qh; QUEUE_HEADS],
    linked: QhSet,
    waiting: QhSet,
    rung: QhSet,
}

impl Ring {
    /// Writes the head and links it to itself.
    pub fn new<M: Coherent>(memory: &Descriptors<M>) -> Self {
        let mut characteristics = Characteristics(0);
        characteristics.set_head(true);
        characteristics.set_speed(2);
        characteristics.set_max_packet(64);
        let mut capabilities = Capabilities(0);
        capabilities.set_mult(1);
        memory.init_qh(HEAD, characteristics, capabilities, true);
        memory.store_qh(
            HEAD,
            qh::HORIZONTAL,
            Link::queue_head(memory.qh_bus(HEAD)).0,
        );
        let mut linked = QhSet::EMPTY;
        linked.insert(HEAD);
        Self {
            successor: [HEAD; QUEUE_HEADS],
            linked,
            waiting: QhSet::EMPTY,
            rung: QhSet::EMPTY,
        }
    }

    /// Whether a queue head is in the ring.
    pub fn is_linked(&self, qh: Qh) -> bool {
        self.linked.contains(qh)
    }

    /// Whether the controller may still hold a queue head that was unlinked.
    pub fn is_leaving(&self, qh: Qh) -> bool {
        self.waiting.union(self.rung).contains(qh)
    }

    /// Puts an initialised queue head behind the head. Does nothing while it is linked or leaving.
    pub fn link<M: Coherent>(&mut self, memory: &Descriptors<M>, new: Qh) {
        if self.is_linked(new) || self.is_leaving(new) || usize::from(new.0) >= QUEUE_HEADS {
            return;
        }
        let next = self.after(HEAD);
        self.set_after(new, next);
        memory.store_qh(new, qh::HORIZONTAL, Link::queue_head(memory.qh_bus(next)).0);
        // The controller must not arrive at a queue head whose contents are still on their way.
        memory.barrier();
        self.set_after(HEAD, new);
        memory.store_qh(HEAD, qh::HORIZONTAL, Link::queue_head(memory.qh_bus(new)).0);
        memory.barrier();
        self.linked.insert(new);
    }

    /// Takes a queue head out of the ring; it waits for the next doorbell. Does nothing if it is not linked.
    ///
    /// Its own link stays, so that a controller that is just there finds its way back to the ring (section 4.8.2).
    pub fn unlink<M: Coherent>(&mut self, memory: &Descriptors<M>, old: Qh) {
        if old == HEAD || !self.is_linked(old) {
            return;
        }
        let mut previous = HEAD;
        while self.after(previous) != old {
            previous = self.after(previous);
            if previous == HEAD {
                return;
            }
        }
        let next = self.after(old);
        self.set_after(previous, next);
        memory.store_qh(
            previous,
            qh::HORIZONTAL,
            Link::queue_head(memory.qh_bus(next)).0,
        );
        // Queue heads that left before may lead to the one that leaves now: a controller that is among them must not
        // be led from one to the next, each freed in its turn, but back.
        for other in self.waiting.union(self.rung) {
            if self.after(other) == old {
                self.set_after(other, next);
                memory.store_qh(
                    other,
                    qh::HORIZONTAL,
                    Link::queue_head(memory.qh_bus(next)).0,
                );
            }
        }
        memory.barrier();
        self.linked.remove(old);
        self.waiting.insert(old);
    }

    /// Whether a doorbell should be rung: something waits and no doorbell is out.
    pub fn wants_doorbell(&self) -> bool {
        self.rung.is_empty() && !self.waiting.is_empty()
    }

    /// Whether a doorbell is out.
    pub fn is_rung(&self) -> bool {
        !self.rung.is_empty()
    }

    /// Moves all that wait to the doorbell that the caller rings next.
    pub fn ring(&mut self) {
        self.rung = self.rung.union(self.waiting);
        self.waiting = QhSet::EMPTY;
    }

    /// Releases those whose doorbell was answered.
    pub fn answered(&mut self) -> QhSet {
        core::mem::take(&mut self.rung)
    }

    /// Releases all that have left, because the schedule is known to have stopped.
    pub fn stopped(&mut self) -> QhSet {
        self.ring();
        self.answered()
    }

    fn after(&self, qh: Qh) -> Qh {
        self.successor
            .get(usize::from(qh.0))
            .copied()
            .unwrap_or(HEAD)
    }

    fn set_after(&mut self, qh: Qh, next: Qh) {
        if let Some(entry) = self.successor.get_mut(usize::from(qh.0)) {
            *entry = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Block;

    fn fixture() -> (Descriptors<Block>, Ring) {
        let memory = crate::testing::descriptors();
        for index in 1..6 {
            memory.init_qh(Qh(index), Characteristics(0), Capabilities(0), false);
        }
        let ring = Ring::new(&memory);
        (memory, ring)
    }

    /// Where the controller goes from a queue head.
    fn next(memory: &Descriptors<Block>, qh: Qh) -> Qh {
        let link = Link(memory.load_qh(qh, qh::HORIZONTAL));
        assert!(
            !link.terminate() && link.kind() == 1,
            "{qh:?} leads nowhere"
        );
        let index = (link.bus_address() - memory.qh_bus(HEAD)) as usize / qh::STRIDE;
        Qh(index as u8)
    }

    fn walk(memory: &Descriptors<Block>) -> Vec<u8> {
        let mut seen = vec![];
        let mut at = HEAD;
        loop {
            seen.push(at.0);
            at = next(memory, at);
            if at == HEAD {
                return seen;
            }
            assert!(seen.len() < QUEUE_HEADS, "endless");
        }
    }

    #[test]
    fn the_empty_ring_is_a_halted_head_that_links_to_itself() {
        let (memory, _) = fixture();
        assert_eq!(walk(&memory), [0]);
        assert_eq!(memory.load_qh(HEAD, qh::CHARACTERISTICS) & 0x8000, 0x8000);
        assert_eq!(memory.load_qh(HEAD, qh::TOKEN), 0x40);
        assert_eq!(memory.load_qh(HEAD, qh::NEXT), 1);
    }

    #[test]
    fn members_follow_the_head_newest_first() {
        let (memory, mut ring) = fixture();
        for index in [1, 2, 3] {
            ring.link(&memory, Qh(index));
        }
        assert_eq!(walk(&memory), [0, 3, 2, 1]);
    }

    #[test]
    fn an_unlinked_member_leads_back_to_the_ring() {
        let (memory, mut ring) = fixture();
        for index in [1, 2, 3] {
            ring.link(&memory, Qh(index));
        }
        ring.unlink(&memory, Qh(2));
        assert_eq!(walk(&memory), [0, 3, 1]);
        assert_eq!(next(&memory, Qh(2)), Qh(1));
    }

    #[test]
    fn a_chain_of_unlinked_members_never_leads_from_one_to_another() {
        let (memory, mut ring) = fixture();
        for index in [1, 2, 3] {
            ring.link(&memory, Qh(index));
        }
        ring.unlink(&memory, Qh(3));
        ring.unlink(&memory, Qh(2));
        assert_eq!(next(&memory, Qh(3)), Qh(1));
        assert_eq!(next(&memory, Qh(2)), Qh(1));
    }

    #[test]
    fn a_doorbell_releases_only_what_left_before_it_was_rung() {
        let (memory, mut ring) = fixture();
        ring.link(&memory, Qh(1));
        ring.link(&memory, Qh(2));
        ring.unlink(&memory, Qh(1));
        assert!(ring.wants_doorbell());
        ring.ring();
        ring.unlink(&memory, Qh(2));
        assert!(!ring.wants_doorbell(), "a doorbell is out");
        assert_eq!(ring.answered().collect::<Vec<_>>(), [Qh(1)]);
        assert!(ring.is_leaving(Qh(2)) && !ring.is_leaving(Qh(1)));
        assert!(ring.wants_doorbell());
    }

    #[test]
    fn a_leaving_member_cannot_be_linked_again() {
        let (memory, mut ring) = fixture();
        ring.link(&memory, Qh(1));
        ring.unlink(&memory, Qh(1));
        ring.link(&memory, Qh(1));
        assert_eq!(walk(&memory), [0]);
        ring.ring();
        ring.answered();
        ring.link(&memory, Qh(1));
        assert_eq!(walk(&memory), [0, 1]);
    }

    #[test]
    fn unlinking_what_is_not_linked_changes_nothing() {
        let (memory, mut ring) = fixture();
        ring.link(&memory, Qh(1));
        ring.unlink(&memory, Qh(2));
        ring.unlink(&memory, HEAD);
        assert_eq!(walk(&memory), [0, 1]);
        assert!(!ring.wants_doorbell());
    }
}
