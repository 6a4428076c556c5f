//! All transfers of a controller, by number, in constant memory.

use super::{Part, TransferId};
use crate::TRANSFERS;
use crate::error::TransferError;
use crate::layout::{Qh, Qtd};
use crate::schedule::queue::Chain;
use core::task::Waker;

const _: () = assert!(TRANSFERS == 32, "one bit for each in `free` and `timed`");

#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Free,
    Queued,
    Done(Result<(), TransferError>),
}

#[derive(Debug)]
pub(crate) struct Transfer<B> {
    pub(super) life: Life,
    pub(super) generation: u16,
    pub(super) qh: Qh,
    pub(super) chain: Option<Chain>,
    pub(super) buffer: Option<B>,
    pub(super) bytes: usize,
    pub(super) trailer: u16,
    pub(super) part: Part,
    /// Nobody will take the completion.
    pub(super) abandoned: bool,
    /// When its time is up, if it is one of [`Transfers::timed`].
    pub(super) deadline: u64,
    /// The transfer behind it in the same pipe.
    pub(super) next: Option<u8>,
    pub(super) waker: Option<Waker>,
    woken: bool,
}

impl<B> Transfer<B> {
    const FREE: Self = Self {
        life: Life::Free,
        generation: 0,
        qh: Qh(0),
        chain: None,
        buffer: None,
        bytes: 0,
        trailer: 0,
        part: Part::Whole,
        abandoned: false,
        deadline: 0,
        next: None,
        waker: None,
        woken: false,
    };
}

/// All transfers of a controller.
#[derive(Debug)]
pub(crate) struct Transfers<B> {
    slots: [Transfer<B>; TRANSFERS],
    /// One bit for each that is free.
    free: u32,
    /// One bit for each that is queued and has a deadline.
    timed: u32,
    /// Some may have been woken.
    woken: bool,
}

impl<B> Transfers<B> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { Transfer::FREE }; TRANSFERS],
            free: u32::MAX,
            timed: 0,
            woken: false,
        }
    }

    pub(crate) fn first_qtd(&self, index: u8) -> Option<Qtd> {
        self.get(index)?.chain.map(Chain::first)
    }

    pub(crate) fn take_woken(&mut self) -> Option<Waker> {
        if !self.woken {
            return None;
        }
        let waker = self.slots.iter_mut().find(|slot| slot.woken);
        let waker = waker.and_then(|slot| {
            slot.woken = false;
            slot.waker.take()
        });
        self.woken = waker.is_some();
        waker
    }

    /// Returns when the next transfer's time is up.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let timed = self
            .timed()
            .filter_map(|index| Some(self.get(index)?.deadline));
        timed.min()
    }

    pub(super) fn get(&self, index: u8) -> Option<&Transfer<B>> {
        self.slots.get(usize::from(index))
    }

    pub(super) fn get_mut(&mut self, index: u8) -> Option<&mut Transfer<B>> {
        self.slots.get_mut(usize::from(index))
    }

    pub(super) fn find(&mut self, id: TransferId) -> Option<&mut Transfer<B>> {
        self.get_mut(id.index)
            .filter(|slot| slot.generation == id.generation && !matches!(slot.life, Life::Free))
    }

    /// Returns one that is free, unless all are in use.
    pub(super) fn first_free(&self) -> Option<u8> {
        (self.free != 0).then(|| self.free.trailing_zeros() as u8)
    }

    /// The queued transfers that have a deadline.
    pub(super) fn timed(&self) -> impl Iterator<Item = u8> + use<B> {
        let mut set = self.timed;
        core::iter::from_fn(move || {
            let index = set.trailing_zeros() as u8;
            (set != 0).then(|| {
                set &= set - 1;
                index
            })
        })
    }

    /// Fills a free slot, field by field: it is not worth a copy of all of it. Takes the buffer; returns the slot's generation.
    pub(super) fn begin(
        &mut self,
        index: u8,
        qh: Qh,
        chain: Option<Chain>,
        part: Part,
        deadline: Option<u64>,
        buffer: &mut Option<B>,
    ) -> u16 {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return 0;
        };
        slot.life = Life::Queued;
        slot.generation = slot.generation.wrapping_add(1);
        slot.qh = qh;
        slot.chain = chain;
        slot.part = part;
        slot.next = None;
        if buffer.is_some() {
            // A free slot has none: there is nothing to drop.
            core::mem::forget(core::mem::replace(&mut slot.buffer, buffer.take()));
        }
        let bit = 1 << index;
        self.free &= !bit;
        if let Some(deadline) = deadline {
            slot.deadline = deadline;
            self.timed |= bit;
        }
        slot.generation
    }

    /// Ends a queued transfer. If it was abandoned, its buffer is dropped and the slot is free.
    #[inline(always)]
    pub(super) fn end(
        &mut self,
        index: u8,
        bytes: usize,
        trailer: u16,
        status: Result<(), TransferError>,
    ) {
        self.timed &= !(1 << index);
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return;
        };
        if !matches!(slot.life, Life::Queued) {
            return;
        }
        slot.bytes = bytes;
        slot.trailer = trailer;
        slot.life = Life::Done(status);
        if slot.abandoned {
            slot.abandoned = false;
            self.free(index);
        } else if slot.waker.is_some() {
            slot.woken = true;
            self.woken = true;
        }
    }

    /// Frees a slot, and drops what is left in it.
    pub(super) fn free(&mut self, index: u8) {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return;
        };
        slot.life = Life::Free;
        // Mostly they were taken: then there is nothing to drop.
        if slot.buffer.is_some() {
            slot.buffer = None;
        }
        if slot.waker.is_some() {
            slot.waker = None;
            slot.woken = false;
        }
        self.free |= 1 << index;
    }

    /// Leaks the buffers of all that are queued, since a controller that does not stop may still write to them, and ends them.
    pub(crate) fn lose(&mut self) {
        for index in 0..TRANSFERS as u8 {
            if let Some(slot) = self.get_mut(index)
                && matches!(slot.life, Life::Queued)
            {
                core::mem::forget(slot.buffer.take());
                self.end(index, 0, 0, Err(TransferError::ControllerFailed));
            }
        }
    }
}
