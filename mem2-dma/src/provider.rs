//! What a pool asks of the world: memory, its addresses on the bus, and the caches in between.
//!
//! The three traits are the seams along which swiotlb 0.8.2 was cut: the bookkeeping knows none of this.

use core::ptr::NonNull;

use crate::{BusAddr, Extent};

mod identity;
mod machine;
#[cfg(feature = "mem2")]
mod mem2;
mod offset;

pub use identity::Identity;
pub use machine::{Hypervisor, Machine, PAGE_BYTES};
#[cfg(feature = "mem2")]
pub use mem2::Mem2;
pub use offset::Offset;

/// Addresses: from an offset in the pool's memory to the bus and back.
///
/// # Implementation safety
/// A device that is given an address from [`Translate::extent`] must reach exactly the pool's byte at that offset, and the `len - 1` bytes after it.
///
/// # Safety
/// See above: devices write where these functions say.
pub unsafe trait Translate {
    /// Returns the longest stretch from `offset` (bytes into the memory) that is contiguous on the bus, or `None` past the end.
    ///
    /// Longest matters: a stretch that ends early makes the pool refuse what it could grant.
    fn extent(&self, offset: u32) -> Option<Extent>;

    /// Returns the offset of the byte that the bus calls `bus`, or `None` if it is not this memory's: foreign frames included.
    fn offset_of(&self, bus: BusAddr) -> Option<u32>;
}

/// Cache maintenance, and copies that make good use of the caches. Every operation is complete, barrier included, when it returns; a copy need not be
/// visible to devices then.
///
/// # Implementation safety
/// After `clean` or `flush` devices see what the CPU wrote; after `invalidate` or `flush` the CPU sees what devices wrote. `copy` writes the bytes of the
/// source to the destination. Nothing outside the range changes, as the CPU sees it.
///
/// # Safety
/// See above: what a device wrote is read trusting these operations.
pub unsafe trait CacheOps: Sync {
    /// Writes modified lines back.
    ///
    /// # Safety
    /// The range is mapped memory and starts and ends at cache lines.
    unsafe fn clean(&self, start: NonNull<u8>, len: usize);

    /// Drops lines, modified or not.
    ///
    /// # Safety
    /// As `clean`, and the caller alone uses the range.
    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize);

    /// Writes modified lines back and drops them.
    ///
    /// # Safety
    /// As `clean`.
    unsafe fn flush(&self, start: NonNull<u8>, len: usize);

    /// Copies `len` bytes from `src` to `dst`, of which one lies in the pool's memory and the other anywhere. Both are cached if they can be.
    ///
    /// As it is here, it leaves the choice of a routine to the compiler.
    ///
    /// # Safety
    /// As of [`core::ptr::copy_nonoverlapping`].
    unsafe fn copy(&self, src: NonNull<u8>, dst: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { src.copy_to_nonoverlapping(dst, len) }
    }
}

/// No maintenance: for machines whose devices see the caches, and for memory that the CPU does not cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coherently;

// SAFETY: there is nothing to keep coherent but the order of accesses, and that the fences keep.
unsafe impl CacheOps for Coherently {
    unsafe fn clean(&self, _: NonNull<u8>, _: usize) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
    unsafe fn invalidate(&self, _: NonNull<u8>, _: usize) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
    unsafe fn flush(&self, _: NonNull<u8>, _: usize) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
}

/// Which stores the CPU may use on the pool's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stores {
    /// Any.
    Any,
    /// Aligned 32-bit stores only: shorter ones destroy their neighbours (uncached RAM of the Wii; hardware notes, section 0, fact 5).
    Words,
}

/// The memory of a pool, with its translation and its caches.
///
/// # Implementation safety
/// `memory` is valid for reads and writes for as long as the provider exists, initialised, and used by nobody but the pool and its devices; so is
/// `coherent`, an alias of the same bytes. Both calls always return the same.
///
/// # Safety
/// See above: the pool lends this memory out.
pub unsafe trait Provider: Translate + Sync {
    /// Returns the memory as the CPU sees it.
    fn memory(&self) -> NonNull<[u8]>;

    /// Returns the first byte of the same memory in a view that devices and CPU always agree on, if there is one. It takes aligned 32-bit accesses.
    ///
    /// Without one, [`Coherent`](crate::Coherent) memory is kept in line by cache operations.
    fn coherent(&self) -> Option<NonNull<u8>> {
        None
    }

    /// Returns the cache operations for `memory`.
    fn cache(&self) -> &dyn CacheOps;

    /// Returns which stores `memory` takes.
    fn stores(&self) -> Stores {
        Stores::Any
    }

    /// Returns the size of a cache line in bytes (a power of two, a slot at most). Mappings never share one.
    fn line(&self) -> u32 {
        32
    }
}
