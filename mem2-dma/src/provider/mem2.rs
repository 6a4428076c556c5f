//! MEM2 of the Wii: the only memory that its USB controllers can be trusted with (hardware notes, sections 0 and 2).
//!
//! Bus addresses are physical ones. The pool is a carve-out of the MEM2 arena, which the system software describes in low memory.

use core::ptr::NonNull;

use hollywood_pac::addr::CachedRange;
use hollywood_pac::cache::{Broadway, CacheControl};

use super::offset::contiguous;
use super::{CacheOps, Coherently, Provider, Stores, Translate};
use crate::{BusAddr, Constraints, Error, Extent};

// SAFETY: the operations of the CPU at hand; those on its caches end with a barrier.
unsafe impl CacheOps for Broadway {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { CacheControl::clean(self, start.as_ptr(), len) }
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise. It refuses parts of lines only, and the caller gives whole ones.
        let _ = unsafe { CacheControl::invalidate(self, start.as_ptr(), len) };
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { CacheControl::flush(self, start.as_ptr(), len) }
    }

    unsafe fn copy(&self, src: NonNull<u8>, dst: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { hollywood_pac::copy::copy(src.as_ptr(), dst.as_ptr(), len) }
    }
}

impl From<hollywood_pac::addr::BusAddr> for BusAddr {
    fn from(address: hollywood_pac::addr::BusAddr) -> Self {
        Self::new(address.get())
    }
}

impl From<BusAddr> for hollywood_pac::addr::BusAddr {
    fn from(address: BusAddr) -> Self {
        Self::new(address.get())
    }
}

impl Mem2<Broadway> {
    /// Takes a part of the MEM2 arena, on a Wii.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the range is not in MEM2.
    ///
    /// # Safety
    /// The program runs under the standard address map. The range is for the pool's use alone, for ever.
    pub unsafe fn carve(range: CachedRange) -> Result<Self, Error> {
        let physical = range.to_phys().start.to_bus().into();
        let null = Error::Unreachable { pool: physical };
        let cached = NonNull::new(range.start().as_ptr()).ok_or(null)?;
        let uncached = NonNull::new(range.start().to_uncached().as_ptr()).ok_or(null)?;
        // SAFETY: the caller's promise; on a Wii memory is whatever it is, but always something.
        unsafe { Self::cached(cached, uncached, physical, range.bytes() as usize, Broadway) }
    }
}

/// First physical address of MEM2.
const FIRST: u32 = 0x1000_0000;
/// Last physical address of MEM2.
const LAST: u32 = 0x13FF_FFFF;

/// Memory in MEM2, cached with cache operations or uncached.
///
/// On a Wii [`Mem2::carve`] takes a part of the arena. Here ordinary memory plays a megabyte of it:
/// ```
/// use std::ptr::NonNull;
/// use mem2_dma::{BusAddr, Error, Mem2, Pool, Quiesced, Storage};
///
/// # #[repr(align(4096))] struct Memory([u8; 65536]);
/// # let memory = Box::leak(Box::new(Memory([0; 65536])));
/// let uncached = NonNull::from(&mut memory.0).cast();
/// // SAFETY: the memory is the pool's alone, for ever.
/// let provider = unsafe { Mem2::uncached(uncached, BusAddr::new(0x1010_0000), 65536) }?;
/// let mut storage = Storage::<1, 16>::new();
/// let pool: Pool = Pool::new(&provider, &mut storage)?;
/// let controller = pool.attach(Mem2::CONSTRAINTS)?;
///
/// let command = controller.map_to_device(b"USBC")?;
/// assert_eq!(command.bus(), BusAddr::new(0x1010_0000)); // a physical address, for a qTD
/// # // SAFETY: there is no device.
/// # let done = unsafe { Quiesced::assert() };
/// command.discard(&done)?;
///
/// // MEM1 is not for pools.
/// // SAFETY: as above.
/// let mem1 = unsafe { Mem2::uncached(uncached, BusAddr::new(0x0010_0000), 65536) };
/// assert!(matches!(mem1.err(), Some(Error::Unreachable { .. })));
/// # Ok::<(), Error>(())
/// ```
pub struct Mem2<C: CacheOps = Coherently> {
    memory: NonNull<[u8]>,
    uncached: NonNull<u8>,
    physical: BusAddr,
    len: u32,
    cache: C,
    stores: Stores,
}

// SAFETY: the pointers stand for memory handed in for exclusive use, from anywhere.
unsafe impl<C: CacheOps> Sync for Mem2<C> {}
// SAFETY: as above.
unsafe impl<C: CacheOps + Send> Send for Mem2<C> {}

impl Mem2 {
    /// What a device of Hollywood demands of every mapping: MEM2, 32-byte aligned.
    pub const CONSTRAINTS: Constraints = Constraints::NONE
        .window(BusAddr::new(FIRST), BusAddr::new(LAST))
        .align(32);

    /// Takes memory that is used through its uncached view only: 32-bit stores, no cache operations.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if `physical` and the `len` bytes after it are not MEM2.
    ///
    /// # Safety
    /// `uncached` is the uncached view of the memory at `physical`: valid for 32-bit reads and writes for ever, initialised, for the pool's use alone. No
    /// line of it is in the cache, and nobody uses its cached view.
    pub unsafe fn uncached(
        uncached: NonNull<u8>,
        physical: BusAddr,
        len: usize,
    ) -> Result<Self, Error> {
        // SAFETY: there is one view; the caller's promise.
        unsafe { Self::new(uncached, uncached, physical, len, Coherently, Stores::Words) }
    }
}

impl<C: CacheOps> Mem2<C> {
    /// Takes memory that is used through the caches, but for [`Coherent`](crate::Coherent) memory.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if `physical` and the `len` bytes after it are not MEM2.
    ///
    /// # Safety
    /// `cached` and `uncached` are the two views of the memory at `physical`: valid for reads and writes (`uncached`: of 32 bits) for ever, initialised,
    /// for the pool's use alone. `cache` operates on `cached`.
    pub unsafe fn cached(
        cached: NonNull<u8>,
        uncached: NonNull<u8>,
        physical: BusAddr,
        len: usize,
        cache: C,
    ) -> Result<Self, Error> {
        // SAFETY: the caller's promise.
        unsafe { Self::new(cached, uncached, physical, len, cache, Stores::Any) }
    }

    /// # Safety
    /// As the public constructors.
    unsafe fn new(
        memory: NonNull<u8>,
        uncached: NonNull<u8>,
        physical: BusAddr,
        len: usize,
        cache: C,
        stores: Stores,
    ) -> Result<Self, Error> {
        let memory = NonNull::slice_from_raw_parts(memory, len);
        let len = contiguous(physical, len)?;
        let last = physical.get() + len.saturating_sub(1);
        if physical.get() < FIRST || last > LAST {
            return Err(Error::Unreachable { pool: physical });
        }
        Ok(Self {
            memory,
            uncached,
            physical,
            len,
            cache,
            stores,
        })
    }
}

// SAFETY: the devices of Hollywood use physical addresses; the constructors' callers gave the right one.
unsafe impl<C: CacheOps> Translate for Mem2<C> {
    fn extent(&self, offset: u32) -> Option<Extent> {
        let len = self.len.checked_sub(offset).filter(|&len| len != 0)?;
        Some(Extent {
            bus: self.physical.checked_add(offset)?,
            len,
        })
    }

    fn offset_of(&self, bus: BusAddr) -> Option<u32> {
        bus.get()
            .checked_sub(self.physical.get())
            .filter(|&offset| offset < self.len)
    }
}

// SAFETY: the constructors' callers promised it.
unsafe impl<C: CacheOps> Provider for Mem2<C> {
    fn memory(&self) -> NonNull<[u8]> {
        self.memory
    }

    fn coherent(&self) -> Option<NonNull<u8>> {
        Some(self.uncached)
    }

    fn cache(&self) -> &dyn CacheOps {
        &self.cache
    }

    fn stores(&self) -> Stores {
        self.stores
    }
}
