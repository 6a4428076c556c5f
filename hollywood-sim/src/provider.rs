//! The way for mem2-dma to this memory: pointers and cache operations.

use std::ptr::NonNull;

use hollywood_pac::addr::PhysAddr;
use mem2_dma::{BusAddr, CacheOps, Error, Mem2};

use crate::Memory;

impl Memory {
    /// Lends a part of MEM2 to a pool, which uses it through pointers: through the cache, and past it for coherent memory.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if it is not all MEM2.
    ///
    /// # Safety
    /// The range is for the pool's use alone, and the memory outlives all use of the pool. While the bytes of a `DmaBuffer` are borrowed, no method of
    /// this memory is called.
    pub unsafe fn carve(&self, address: u32, len: u32) -> Result<Mem2<&Self>, Error> {
        let bus = BusAddr::new(address);
        let views = self.views(PhysAddr::new(address), len);
        let (cached, uncached) = views.ok_or(Error::Unreachable { pool: bus })?;
        // SAFETY: two views of memory that was initialised when it was made, and kept alike by the operations below; the rest the caller promised.
        unsafe { Mem2::cached(cached, uncached, bus, len as usize, self) }
    }

    fn at(&self, start: NonNull<u8>) -> u32 {
        self.address_of(start)
            .expect("cache operations are given pointers that come from `carve`")
    }
}

// SAFETY: clean and flush copy what the CPU stored to where devices read, invalidate and flush the other way; whole lines are all they touch.
unsafe impl CacheOps for &Memory {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        Memory::clean(self, self.at(start), len as u32);
        self.sync();
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        Memory::invalidate(self, self.at(start), len as u32);
        self.sync();
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        Memory::flush(self, self.at(start), len as u32);
        self.sync();
    }
}
