//! Copies into and out of pool memory, in stores that the memory can take.

use core::ptr::NonNull;

use crate::{CacheOps, Stores};

/// Copies `src` to `dst`, in the pool.
///
/// # Safety
/// `dst` is valid for writes of `src.len()` bytes that nobody else uses; with [`Stores::Words`] so are the rest of the first and the last aligned
/// word, which are read and written back.
pub(crate) unsafe fn copy_in(dst: NonNull<u8>, src: &[u8], stores: Stores, cache: &dyn CacheOps) {
    match stores {
        // SAFETY: the caller's promise; a borrowed slice cannot overlap memory that nobody else uses.
        Stores::Any => unsafe { cache.copy(NonNull::from(src).cast(), dst, src.len()) },
        // SAFETY: the caller's promise.
        Stores::Words => unsafe {
            store_words(dst, src.len(), |index| src.get(index).copied().unwrap_or(0))
        },
    }
}

/// Fills `len` bytes at `dst` with zeros.
///
/// # Safety
/// As [`copy_in`].
pub(crate) unsafe fn zero(dst: NonNull<u8>, len: usize, stores: Stores) {
    match stores {
        // SAFETY: the caller's promise.
        Stores::Any => unsafe { dst.write_bytes(0, len) },
        // SAFETY: the caller's promise.
        Stores::Words => unsafe { store_words(dst, len, |_| 0) },
    }
}

/// Copies `dst.len()` bytes from `src`, in the pool, to `dst`. Loads may have any width.
///
/// # Safety
/// `src` is valid for reads of `dst.len()` bytes that nobody writes meanwhile.
pub(crate) unsafe fn copy_out(src: NonNull<u8>, dst: &mut [u8], cache: &dyn CacheOps) {
    // SAFETY: the caller's promise; an exclusively borrowed slice cannot overlap memory that nobody else uses.
    unsafe { cache.copy(src, NonNull::from(&mut *dst).cast(), dst.len()) }
}

/// Stores `len` bytes in aligned 32-bit words. `byte` gives them by index.
///
/// # Safety
/// As [`copy_in`] with [`Stores::Words`].
unsafe fn store_words(dst: NonNull<u8>, len: usize, byte: impl Fn(usize) -> u8) {
    let lead = dst.addr().get() % 4;
    let mut index = 0;
    while index < len {
        let skip = if index == 0 { lead } else { 0 };
        let count = (4 - skip).min(len - index);
        // SAFETY: the aligned word around a byte that the caller gave us; wholly ours, as promised.
        let word = unsafe { dst.add(index).sub(skip).cast::<u32>() };
        let mut bytes = [0; 4];
        if count < 4 {
            // A partial word keeps its other bytes.
            // SAFETY: as above.
            bytes = unsafe { word.read_volatile() }.to_ne_bytes();
        }
        for (at, slot) in bytes.iter_mut().enumerate().skip(skip).take(count) {
            *slot = byte(index + at - skip);
        }
        // SAFETY: as above. Volatile, so that it stays one store of 32 bits.
        unsafe { word.write_volatile(u32::from_ne_bytes(bytes)) };
        index += count;
    }
}
