//! Streaming mappings: a copy of the caller's bytes that the device owns until the driver proves that it has let go.
//!
//! The caller's slice is borrowed for the length of a call only, never while the device works. So a mapping may be dropped or forgotten at any time:
//! nothing is freed that a device may still touch.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;

use crate::copy;
use crate::pool::{Pool, Taken};
use crate::quarantine::{Quarantine, Quiesced};
use crate::table::Handle;
use crate::{BusAddr, DeviceReads, DeviceWrites, Error, Way};

/// Room in a pool that belongs to a device.
///
/// Its bytes cannot be touched, only synchronised. Dropped before its address was asked for, it is freed; after that, quarantined.
pub struct Mapping<'p, D: Way, const SLOT: usize = 512> {
    pool: &'p Pool<'p, SLOT>,
    handle: Handle,
    offset: u32,
    len: u32,
    bus: BusAddr,
    /// Whether the address was given away, so that a device may know it.
    exposed: Cell<bool>,
    direction: PhantomData<D>,
}

impl<'p, D: Way, const SLOT: usize> Mapping<'p, D, SLOT> {
    pub(crate) fn new(pool: &'p Pool<'p, SLOT>, taken: Taken, len: u32) -> Self {
        Self {
            pool,
            handle: taken.placed.handle,
            offset: taken.placed.offset,
            len,
            bus: taken.bus,
            exposed: Cell::new(false),
            direction: PhantomData,
        }
    }

    /// Returns the address of the first byte, for the device. From here on only a [`Quiesced`] frees the mapping.
    ///
    /// Giving it to the device is the driver's responsibility: the device must stay within [`Mapping::len`] bytes, and must have let go before the
    /// pool's memory goes away.
    pub fn bus(&self) -> BusAddr {
        self.exposed.set(true);
        self.bus
    }

    /// Returns the address of the byte at `offset`, which lies in the mapping.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn bus_at(&self, offset: usize) -> Result<BusAddr, Error> {
        self.check(&(offset..offset.saturating_add(1)))?;
        let bus = self.bus().checked_add(offset as u32);
        bus.ok_or(Error::OutOfRange {
            offset,
            len: 1,
            size: self.len(),
        })
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether the length is 0. It never is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives the mapping up while the device may still work on it, to be freed with a later proof.
    pub fn quarantine(self) -> Quarantine<'p, SLOT> {
        let this = ManuallyDrop::new(self);
        Quarantine::of(this.pool, this.handle)
    }

    /// Frees the mapping without copying anything out.
    ///
    /// # Errors
    /// [`Error::Stale`] after a reset.
    pub fn discard(self, _done: &Quiesced) -> Result<(), Error> {
        let this = ManuallyDrop::new(self);
        this.pool.give_back(this.handle)
    }

    /// Copies `data` in, pads it with zeros to the end of its line, and hands the lines to the device.
    pub(crate) fn fill(&self, data: &[u8]) {
        let pad = (self.pool.lines(self.len) - self.len) as usize;
        let start = self.pool.at(self.offset);
        // SAFETY: `data` has the mapping's length; the padding is in its last line, which is its own.
        unsafe {
            copy::copy_in(start, data, self.pool.stores, self.pool.provider.cache());
            copy::zero(start.add(data.len()), pad, self.pool.stores);
        }
        self.pool.count(data.len());
        self.hand_over(0, self.len);
    }

    /// Fills the mapping with zeros and hands the lines to the device.
    pub(crate) fn fill_zero(&self) {
        // SAFETY: whole lines of the mapping.
        unsafe {
            copy::zero(
                self.pool.at(self.offset),
                self.pool.lines(self.len) as usize,
                self.pool.stores,
            )
        };
        self.hand_over(0, self.len);
    }

    /// Hands the lines to the device as they are.
    pub(crate) fn hand_over_empty(&self) {
        // A dirty line, evicted while the device writes, would overwrite what it wrote.
        self.pool.invalidate(self.offset, self.len);
    }

    /// Makes the CPU's stores visible to the device. `from` is at a line.
    fn hand_over(&self, from: u32, len: u32) {
        if D::DIRECTION.from_device() {
            // No modified line may be left to overwrite what the device writes, and none to hide it.
            self.pool.flush(self.offset + from, len);
        } else {
            self.pool.clean(self.offset + from, len);
        }
    }

    fn check(&self, range: &Range<usize>) -> Result<(), Error> {
        if range.start <= range.end && range.end <= self.len() {
            return Ok(());
        }
        let len = range.end.saturating_sub(range.start);
        Err(Error::OutOfRange {
            offset: range.start,
            len,
            size: self.len(),
        })
    }

    /// The range in whole lines: start and length.
    fn lines(&self, offset: usize, len: usize) -> (u32, u32) {
        let first = offset as u32 & !(self.pool.line - 1);
        (first, offset as u32 + len as u32 - first)
    }
}

impl<'p, D: DeviceReads, const SLOT: usize> Mapping<'p, D, SLOT> {
    /// Replaces the bytes from `offset` on by `data`, for the device to read: `swiotlb_sync_single_for_device`.
    ///
    /// The device owns the mapping meanwhile: the driver knows which part it is not reading.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Stale`] after a reset.
    pub fn sync_for_device(&mut self, offset: usize, data: &[u8]) -> Result<(), Error> {
        self.check(&(offset..offset.saturating_add(data.len())))?;
        self.pool.check_handle(self.handle)?;
        if data.is_empty() {
            return Ok(());
        }
        let (first, len) = self.lines(offset, data.len());
        if D::DIRECTION.from_device() {
            // What the device wrote into the rest of these lines must survive the write-back.
            self.pool.flush(self.offset + first, len);
        }
        // SAFETY: checked to lie in the mapping; whole words of it are its own.
        unsafe {
            copy::copy_in(
                self.pool.at(self.offset).add(offset),
                data,
                self.pool.stores,
                self.pool.provider.cache(),
            )
        };
        self.pool.count(data.len());
        self.hand_over(first, len);
        Ok(())
    }
}

impl<'p, D: DeviceWrites, const SLOT: usize> Mapping<'p, D, SLOT> {
    /// Copies bytes that the device has written so far, from `offset` on, to `dst`: `swiotlb_sync_single_for_cpu`.
    ///
    /// The device owns the mapping meanwhile: the driver knows which part it is not writing.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Stale`] after a reset.
    pub fn sync_for_cpu(&mut self, offset: usize, dst: &mut [u8]) -> Result<(), Error> {
        self.check(&(offset..offset.saturating_add(dst.len())))?;
        self.pool.check_handle(self.handle)?;
        if dst.is_empty() {
            return Ok(());
        }
        let (first, len) = self.lines(offset, dst.len());
        self.pool.invalidate(self.offset + first, len);
        let cache = self.pool.provider.cache();
        // SAFETY: checked to lie in the mapping.
        unsafe { copy::copy_out(self.pool.at(self.offset).add(offset), dst, cache) };
        self.pool.count(dst.len());
        Ok(())
    }

    /// Ends the mapping: copies exactly the `received` bytes that the device delivered to the start of `dst`, and frees the room. Returns `received`.
    ///
    /// # Errors
    /// The room is freed nevertheless, and nothing is copied: [`Error::Overrun`] if the device claims more than it was given,
    /// [`Error::ShortDestination`] if `dst` cannot take it, [`Error::Stale`] after a reset.
    pub fn complete(
        mut self,
        done: &Quiesced,
        received: usize,
        dst: &mut [u8],
    ) -> Result<usize, Error> {
        let copied = if received > self.len() {
            Err(Error::Overrun {
                received,
                len: self.len(),
            })
        } else {
            match dst.get_mut(..received) {
                Some(dst) => self.sync_for_cpu(0, dst),
                None => Err(Error::ShortDestination {
                    received,
                    room: dst.len(),
                }),
            }
        };
        let freed = self.discard(done);
        copied.and(freed).and(Ok(received))
    }
}

impl<D: Way, const SLOT: usize> Drop for Mapping<'_, D, SLOT> {
    fn drop(&mut self) {
        if self.exposed.get() {
            let _waits_for_a_reset = Quarantine::of(self.pool, self.handle);
        } else {
            // No device can know the address. Stale only after a reset, and then there is nothing to free.
            let _ = self.pool.give_back(self.handle);
        }
    }
}
