//! Memory and execution barriers. All are user-mode instructions.

#[cfg(not(target_arch = "powerpc"))]
use core::sync::atomic::{Ordering, compiler_fence};

/// Waits until every earlier memory access is performed for everybody (`sync`).
///
/// Belongs between the last cache operation on a buffer and the store that tells a device about it.
#[inline(always)]
pub fn sync() {
    #[cfg(target_arch = "powerpc")]
    // SAFETY: a barrier; it changes no register and no memory.
    unsafe {
        core::arch::asm!("sync", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "powerpc"))]
    compiler_fence(Ordering::SeqCst);
}

/// Keeps device accesses before it apart from device accesses after it (`eieio`). It does not order accesses to cached memory
/// against them: that takes [`sync`].
#[inline(always)]
pub fn eieio() {
    #[cfg(target_arch = "powerpc")]
    // SAFETY: a barrier; it changes no register and no memory.
    unsafe {
        core::arch::asm!("eieio", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "powerpc"))]
    compiler_fence(Ordering::SeqCst);
}

/// Discards prefetched instructions, so that what follows runs in the context that what precedes has set up (`isync`).
#[inline(always)]
pub fn isync() {
    #[cfg(target_arch = "powerpc")]
    // SAFETY: a barrier; it changes no register and no memory.
    unsafe {
        core::arch::asm!("isync", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "powerpc"))]
    compiler_fence(Ordering::SeqCst);
}
