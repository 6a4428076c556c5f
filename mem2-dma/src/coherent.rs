//! Memory that CPU and device share while both use it: descriptors, queues, frame lists.

use core::cell::UnsafeCell;
use core::mem::{ManuallyDrop, align_of, size_of};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use crate::device::Device;
use crate::pool::Pool;
use crate::quarantine::{Quarantine, Quiesced};
use crate::table::{Handle, Owner};
use crate::{BusAddr, Error};

/// A 32-bit little-endian word that a device may read and write at any time. Every access is one 32-bit load or store.
#[repr(transparent)]
#[derive(Default)]
pub struct Le32(UnsafeCell<u32>);

impl Le32 {
    /// Makes a word.
    pub const fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value.to_le()))
    }

    /// Loads the word.
    pub fn get(&self) -> u32 {
        // SAFETY: the cell is valid and aligned; volatile, since a device may change it.
        u32::from_le(unsafe { self.0.get().read_volatile() })
    }

    /// Stores the word.
    pub fn set(&self, value: u32) {
        // SAFETY: as above; the cell is not shared between threads.
        unsafe { self.0.get().write_volatile(value.to_le()) }
    }
}

/// The layout of something that a device reads and writes.
///
/// # Implementation safety
/// `repr(C)` (or `transparent`), made of nothing but [`Le32`] and arrays and structures of it, aligned to 4 bytes or more. It may have no padding that
/// the device writes, and no `Drop`.
///
/// # Safety
/// See above: all bits zero must be a value, and 32-bit accesses all it takes.
pub unsafe trait Layout {}

// SAFETY: it is what the trait speaks of.
unsafe impl Layout for Le32 {}
// SAFETY: an array of it is, too.
unsafe impl<T: Layout, const N: usize> Layout for [T; N] {}

/// A `T`, or a row of them, that CPU and device share: zeroed, aligned, alone in its cache lines.
///
/// Where the provider has a view of its memory past the caches, accesses go through it and are visible at once. Elsewhere [`Coherent::publish`]
/// and [`Coherent::refresh`] keep the caches in line (and do nothing where they are not needed). Either way the driver orders its accesses: a
/// [`Coherent::publish`] before the store that lets the device look.
///
/// Dropped after its address was given away, it is quarantined; [`Coherent::free`] frees it.
pub struct Coherent<'p, T: ?Sized, const SLOT: usize = 512> {
    pool: &'p Pool<'p, SLOT>,
    handle: Handle,
    value: NonNull<T>,
    offset: u32,
    bytes: u32,
    bus: BusAddr,
    cached: bool,
}

// SAFETY: it owns its memory like a box does; `T` is words without ties to a thread.
unsafe impl<T: ?Sized, const SLOT: usize> Send for Coherent<'_, T, SLOT> {}

impl<'p, T: Layout, const SLOT: usize> Coherent<'p, T, SLOT> {
    pub(crate) fn new(
        device: &Device<'p, SLOT>,
        align: usize,
        owner: Owner,
    ) -> Result<Self, Error> {
        Raw::new(device, size_of::<T>(), align.max(align_of::<T>()), owner)
            .map(|raw| raw.with(|start| start.cast()))
    }
}

impl<'p, T: Layout, const SLOT: usize> Coherent<'p, [T], SLOT> {
    pub(crate) fn new_slice(
        device: &Device<'p, SLOT>,
        count: usize,
        align: usize,
        owner: Owner,
    ) -> Result<Self, Error> {
        let bytes = size_of::<T>().saturating_mul(count);
        let raw = Raw::new(device, bytes, align.max(align_of::<T>()), owner)?;
        Ok(raw.with(|start| NonNull::slice_from_raw_parts(start.cast(), count)))
    }

    /// Returns the address of element `index`, or `None` past the end.
    pub fn bus_of(&self, index: usize) -> Option<BusAddr> {
        if index >= self.len() {
            return None;
        }
        self.bus.checked_add((index * size_of::<T>()) as u32)
    }
}

impl<'p, T: ?Sized, const SLOT: usize> Coherent<'p, T, SLOT> {
    /// Returns the address of the first byte, for the device.
    pub fn bus(&self) -> BusAddr {
        self.bus
    }

    /// Makes everything stored so far visible to the device, in order before whatever is stored afterwards.
    pub fn publish(&self) {
        if self.cached {
            self.pool.clean(self.offset, self.bytes);
        }
        fence(Ordering::SeqCst);
    }

    /// Makes what the device stored visible to the CPU. What the CPU stored and did not publish is lost where there is no view past the caches.
    pub fn refresh(&self) {
        fence(Ordering::SeqCst);
        if self.cached {
            self.pool.invalidate(self.offset, self.bytes);
        }
    }

    /// Frees the memory.
    ///
    /// # Errors
    /// [`Error::Stale`] after a reset.
    pub fn free(self, _done: &Quiesced) -> Result<(), Error> {
        let this = ManuallyDrop::new(self);
        this.pool.give_back(this.handle)
    }

    /// Gives the memory up while the device may still use it, to be freed with a later proof.
    pub fn quarantine(self) -> Quarantine<'p, SLOT> {
        let this = ManuallyDrop::new(self);
        Quarantine::of(this.pool, this.handle)
    }
}

impl<T: ?Sized, const SLOT: usize> Deref for Coherent<'_, T, SLOT> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: zeroed when allocated, this value's alone on the CPU's side; `Layout` is made of cells, which a device may change.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized, const SLOT: usize> Drop for Coherent<'_, T, SLOT> {
    fn drop(&mut self) {
        let _waits_for_a_reset = Quarantine::of(self.pool, self.handle);
    }
}

/// Zeroed room for coherent memory, before it has a type.
struct Raw<'p, const SLOT: usize> {
    pool: &'p Pool<'p, SLOT>,
    handle: Handle,
    start: NonNull<u8>,
    offset: u32,
    bytes: u32,
    bus: BusAddr,
    cached: bool,
}

impl<'p, const SLOT: usize> Raw<'p, SLOT> {
    fn new(
        device: &Device<'p, SLOT>,
        bytes: usize,
        align: usize,
        owner: Owner,
    ) -> Result<Self, Error> {
        let pool = device.pool();
        let taken = device.take_aligned(bytes, align, owner)?;
        let offset = taken.placed.offset;
        let len = pool.lines(bytes as u32);
        let view = pool.provider.coherent();
        // SAFETY: the view shows the same bytes, so the offset lies in it as well.
        let start = view.map_or(pool.at(offset), |view| unsafe { view.add(offset as usize) });
        if view.is_some() {
            // The lines leave the cache for good: a later write-back would overwrite what was stored past it.
            pool.flush(offset, len);
        }
        for word in 0..len / 4 {
            // SAFETY: within the lines of this allocation, aligned to a line.
            unsafe { start.cast::<u32>().add(word as usize).write_volatile(0) };
        }
        if view.is_none() {
            pool.clean(offset, len);
        }
        fence(Ordering::SeqCst);
        Ok(Self {
            pool,
            handle: taken.placed.handle,
            start,
            offset,
            bytes: len,
            bus: taken.bus,
            cached: view.is_none(),
        })
    }

    fn with<T: ?Sized>(
        self,
        value: impl FnOnce(NonNull<u8>) -> NonNull<T>,
    ) -> Coherent<'p, T, SLOT> {
        let Self {
            pool,
            handle,
            start,
            offset,
            bytes,
            bus,
            cached,
        } = self;
        Coherent {
            pool,
            handle,
            value: value(start),
            offset,
            bytes,
            bus,
            cached,
        }
    }
}
