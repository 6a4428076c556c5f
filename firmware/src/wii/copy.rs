//! `memcpy` for this processor: the compiler calls it for every value of more than 16 bytes that moves, and the one of its own
//! runtime looks at alignments first.
//!
//! It works anywhere: past the caches, where `dcbz` would be an exception, and in exception handlers, where floating point would
//! be one. Bulk data in cached memory have a better one in [`hollywood_pac::copy`].

/// # Safety
/// As of the function of this name in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise. It is assembly, in which the compiler finds no `memcpy` to call.
    unsafe { hollywood_pac::copy::by_words(src, dst, bytes) };
    dst
}
