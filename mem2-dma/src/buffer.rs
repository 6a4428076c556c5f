//! The direct path: buffers in the pool that go to the device and back without a copy.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use crate::copy;
use crate::device::Device;
use crate::pool::{Pool, Taken};
use crate::quarantine::{Quarantine, Quiesced};
use crate::table::{Handle, Owner, State};
use crate::{Bidirectional, BusAddr, Direction, Error, FromDevice, Stores, ToDevice, Way};

/// A buffer in the pool that the CPU owns: a slice of bytes.
///
/// Allocated once, it may serve any number of transfers, either way. Dropped, it is freed.
pub struct DmaBuffer<'p, const SLOT: usize = 512> {
    pool: &'p Pool<'p, SLOT>,
    handle: Handle,
    offset: u32,
    len: u32,
    /// The CPU may have stored something that is in its cache alone.
    dirty: bool,
}

impl<'p, const SLOT: usize> DmaBuffer<'p, SLOT> {
    pub(crate) fn new(device: &Device<'p, SLOT>, len: usize, owner: Owner) -> Result<Self, Error> {
        let pool = device.pool();
        if pool.stores == Stores::Words {
            return Err(Error::WordsOnly);
        }
        let Taken { placed, .. } = device.take(len, owner)?;
        pool.set_state(placed.handle, State::Owned)?;
        let buffer = Self {
            pool,
            handle: placed.handle,
            offset: placed.offset,
            len: len as u32,
            dirty: true,
        };
        // What others left here is not for this caller.
        // SAFETY: whole lines of the buffer.
        unsafe {
            copy::zero(
                pool.at(placed.offset),
                pool.lines(len as u32) as usize,
                Stores::Any,
            )
        };
        Ok(buffer)
    }

    /// Lends the first `len` bytes to the device to read.
    ///
    /// # Errors
    /// Gives the buffer back with [`Error::OutOfRange`] or [`Error::Empty`].
    pub fn lend_to_device(self, len: usize) -> Result<Lent<'p, ToDevice, SLOT>, Refused<Self>> {
        self.lend(len)
    }

    /// Lends the first `len` bytes to the device to write.
    ///
    /// # Errors
    /// As [`DmaBuffer::lend_to_device`].
    pub fn lend_from_device(self, len: usize) -> Result<Lent<'p, FromDevice, SLOT>, Refused<Self>> {
        self.lend(len)
    }

    /// Lends the first `len` bytes to the device to read and to write.
    ///
    /// # Errors
    /// As [`DmaBuffer::lend_to_device`].
    pub fn lend_bidirectional(
        self,
        len: usize,
    ) -> Result<Lent<'p, Bidirectional, SLOT>, Refused<Self>> {
        self.lend(len)
    }

    fn lend<D: Way>(mut self, len: usize) -> Result<Lent<'p, D, SLOT>, Refused<Self>> {
        if len == 0 || len > self.len() {
            let size = self.len();
            let error = if len == 0 {
                Error::Empty
            } else {
                Error::OutOfRange {
                    offset: 0,
                    len,
                    size,
                }
            };
            return Err(Refused { error, value: self });
        }
        if let Err(error) = self.pool.lend(self.handle, len) {
            return Err(Refused { error, value: self });
        }
        // A line that was only loaded since the buffer came back is never written over what the device writes; and what a
        // device is to write is invalidated afterwards in any case.
        if self.dirty {
            self.dirty = len < self.len();
            match D::DIRECTION {
                Direction::ToDevice => self.pool.clean(self.offset, len as u32),
                // Written back, not dropped: after a short transfer the rest of the buffer is still the caller's.
                _ => self.pool.flush(self.offset, len as u32),
            }
        }
        Ok(Lent {
            buffer: ManuallyDrop::new(self),
            len: len as u32,
            direction: PhantomData,
        })
    }
}

impl<const SLOT: usize> Deref for DmaBuffer<'_, SLOT> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: slots of this buffer alone, zeroed when allocated; no device has them while it is not lent.
        unsafe {
            core::slice::from_raw_parts(self.pool.at(self.offset).as_ptr(), self.len as usize)
        }
    }
}

impl<const SLOT: usize> DerefMut for DmaBuffer<'_, SLOT> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.dirty = true;
        // SAFETY: as above, and borrowed exclusively.
        unsafe {
            core::slice::from_raw_parts_mut(self.pool.at(self.offset).as_ptr(), self.len as usize)
        }
    }
}

impl<const SLOT: usize> Drop for DmaBuffer<'_, SLOT> {
    fn drop(&mut self) {
        // Stale only after a reset took a lent buffer away, and then there is nothing to free.
        let _ = self.pool.give_back(self.handle);
    }
}

/// A buffer that a device owns. Its bytes are out of reach until it is reclaimed. Dropped, it is quarantined.
pub struct Lent<'p, D: Way, const SLOT: usize = 512> {
    buffer: ManuallyDrop<DmaBuffer<'p, SLOT>>,
    len: u32,
    direction: PhantomData<D>,
}

impl<'p, D: Way, const SLOT: usize> Lent<'p, D, SLOT> {
    /// Returns the address of the first byte, for the device.
    pub fn bus(&self) -> BusAddr {
        self.buffer.pool.bus(self.buffer.offset)
    }

    /// Returns the address of the byte at `offset`, which lies in what was lent.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn bus_at(&self, offset: usize) -> Result<BusAddr, Error> {
        let outside = Error::OutOfRange {
            offset,
            len: 1,
            size: self.len(),
        };
        if offset >= self.len() {
            return Err(outside);
        }
        self.bus().checked_add(offset as u32).ok_or(outside)
    }

    /// Returns how many bytes were lent.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether nothing was lent. Something always is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the buffer back, with whatever the device wrote.
    ///
    /// # Errors
    /// [`Error::Stale`] after a reset.
    pub fn reclaim(self, _done: &Quiesced) -> Result<DmaBuffer<'p, SLOT>, Error> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, nor dropped.
        let buffer = unsafe { ManuallyDrop::take(&mut this.buffer) };
        buffer.pool.set_state(buffer.handle, State::Owned)?;
        if D::DIRECTION.from_device() {
            buffer.pool.invalidate(buffer.offset, this.len);
        }
        Ok(buffer)
    }

    /// Gives the buffer up while the device may still work on it, to be freed with a later proof.
    pub fn quarantine(self) -> Quarantine<'p, SLOT> {
        let this = ManuallyDrop::new(self);
        Quarantine::of(this.buffer.pool, this.buffer.handle)
    }
}

impl<D: Way, const SLOT: usize> Drop for Lent<'_, D, SLOT> {
    fn drop(&mut self) {
        let _waits_for_a_reset = Quarantine::of(self.buffer.pool, self.buffer.handle);
    }
}

/// A value that a call refused to take, and why.
#[derive(Debug)]
pub struct Refused<T> {
    /// Why.
    pub error: Error,
    /// The value, unchanged.
    pub value: T,
}

impl<const SLOT: usize> core::fmt::Debug for DmaBuffer<'_, SLOT> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let bus = self.pool.bus(self.offset);
        write!(f, "DmaBuffer({} bytes at {bus})", self.len)
    }
}

impl<T> From<Refused<T>> for Error {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}
