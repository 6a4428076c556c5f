//! Cache maintenance for memory that devices share: 32-byte lines, nothing coherent, everything explicit.
//!
//! | before | do |
//! |---|---|
//! | a device reads what the CPU wrote | [`clean`] (or [`flush`]), then ring the doorbell |
//! | a device writes what the CPU will read | [`flush`] or [`invalidate`] before handing over **and** [`invalidate`] after completion: the CPU may fetch lines speculatively in between |
//! | a line is used through the uncached view | [`flush`], then leave the cached view alone |
//! | code was written | [`sync_instructions`] |
//!
//! Every function ends with `sync`, so a store to a device may follow. Cleaning and flushing are harmless to neighbours and take
//! any range; invalidating throws away what the CPU wrote, so it takes whole lines only: by type ([`Line`]) or checked
//! ([`invalidate_range`]). Sources: hardware notes, section 7.2; the instructions act on the level-2 cache as well.
//!
//! Invalidation and zeroing without a fetch (`dcbi`, `dcbz`) happen on the bare CPU only. Elsewhere memory is coherent: nothing
//! to invalidate, and zeroing is plain stores. [`CacheControl`] is for dependants that want to put a stand-in in place.

use core::fmt;

#[cfg(target_os = "none")]
use crate::addr::UncachedAddr;
use crate::cpu::sync;

/// Bytes in a cache line.
pub const LINE_BYTES: usize = 32;

/// A whole cache line: memory that shares its line with nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Line(pub [u8; LINE_BYTES]);

impl Line {
    /// A line of zeros.
    pub const ZERO: Self = Self([0; LINE_BYTES]);

    /// Borrows bytes as whole lines.
    ///
    /// # Errors
    /// [`PartialLine`] unless the bytes start and end at line boundaries.
    pub fn from_bytes_mut(bytes: &mut [u8]) -> Result<&mut [Self], PartialLine> {
        PartialLine::check(bytes.as_ptr(), bytes.len())?;
        let lines = bytes.len() / LINE_BYTES;
        // SAFETY: the bytes are exactly `lines` aligned lines, exclusively borrowed for as long as the result, and `Line` is
        // nothing but bytes.
        Ok(unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), lines) })
    }

    /// Borrows lines as their bytes.
    pub fn as_bytes(lines: &[Self]) -> &[u8] {
        // SAFETY: `Line` is nothing but bytes, without padding.
        unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
    }

    /// Borrows lines as their bytes.
    pub fn as_bytes_mut(lines: &mut [Self]) -> &mut [u8] {
        // SAFETY: `Line` is nothing but bytes, without padding, and any byte is valid in it.
        unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
    }
}

/// A range that begins or ends inside a cache line, so that invalidating it would destroy what its neighbours wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PartialLine {
    /// Address of the range.
    pub address: usize,
    /// Length of the range in bytes.
    pub bytes: usize,
}

impl PartialLine {
    fn check(start: *const u8, bytes: usize) -> Result<(), Self> {
        if start.addr().is_multiple_of(LINE_BYTES) && bytes.is_multiple_of(LINE_BYTES) {
            Ok(())
        } else {
            Err(Self {
                address: start.addr(),
                bytes,
            })
        }
    }
}

impl fmt::Display for PartialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes at {:#x} do not cover whole cache lines of {LINE_BYTES} bytes",
            self.bytes, self.address
        )
    }
}

impl core::error::Error for PartialLine {}

/// Writes modified lines back to memory; they stay cached. Partial lines are included whole.
#[inline]
pub fn clean(bytes: &[u8]) {
    // SAFETY: a borrowed slice is mapped.
    unsafe { clean_range(bytes.as_ptr(), bytes.len()) }
}

/// Writes modified lines back to memory and drops them. Partial lines are included whole, and their neighbours' bytes are
/// written back, not lost.
#[inline]
pub fn flush(bytes: &[u8]) {
    // SAFETY: a borrowed slice is mapped.
    unsafe { flush_range(bytes.as_ptr(), bytes.len()) }
}

/// Drops lines, modified or not: the next read sees what a device wrote.
#[inline]
pub fn invalidate(lines: &mut [Line]) {
    // SAFETY: the lines are mapped, whole and exclusively borrowed, and bytes are valid whatever memory holds.
    unsafe { invalidate_lines(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// Sets lines to zero. On the bare CPU they are not fetched first.
#[inline]
pub fn zero(lines: &mut [Line]) {
    #[cfg(target_os = "none")]
    if u32::try_from(lines.as_ptr().addr())
        .is_ok_and(|address| UncachedAddr::new(address).is_none())
    {
        for line in lines {
            // The line is dropped first for Dolphin's sake, whose `dcbz` writes memory behind a line that its cache model holds.
            // SAFETY: the line is whole and exclusively borrowed. Outside the uncached view memory is cacheable under the
            // standard address map; `dcbz` on anything else would be an alignment exception, not a wild store.
            unsafe {
                core::arch::asm!(
                    "dcbi 0, {line}",
                    "dcbz 0, {line}",
                    line = in(reg) line,
                    options(nostack, preserves_flags)
                )
            };
        }
        return;
    }
    let words = size_of_val(lines) / size_of::<u32>();
    let start: *mut u32 = lines.as_mut_ptr().cast();
    for index in 0..words {
        // SAFETY: within the lines, aligned. Volatile, because past the caches only 32-bit stores leave neighbours alone, and
        // the compiler must not merge or split them.
        unsafe { start.add(index).write_volatile(0) };
    }
}

/// Makes instructions that were written as data visible to instruction fetch.
#[inline]
pub fn sync_instructions(code: &[u8]) {
    // SAFETY: a borrowed slice is mapped.
    unsafe { sync_instructions_range(code.as_ptr(), code.len()) }
}

/// Does what [`clean`] does, for the `bytes` bytes at `start`.
///
/// # Safety
/// The range must be mapped. Its contents do not matter, nor who borrows it.
#[inline]
pub unsafe fn clean_range(start: *const u8, bytes: usize) {
    for_each_line(start, bytes, |line| {
        #[cfg(target_arch = "powerpc")]
        // SAFETY: the line is mapped, as the caller promised; memory keeps its contents as the CPU sees them.
        unsafe {
            core::arch::asm!("dcbst 0, {}", in(reg) line, options(nostack, preserves_flags))
        };
        #[cfg(not(target_arch = "powerpc"))]
        let _ = line;
    });
    sync();
}

/// Does what [`flush`] does, for the `bytes` bytes at `start`.
///
/// # Safety
/// The range must be mapped. Its contents do not matter, nor who borrows it.
#[inline]
pub unsafe fn flush_range(start: *const u8, bytes: usize) {
    for_each_line(start, bytes, |line| {
        #[cfg(target_arch = "powerpc")]
        // SAFETY: the line is mapped, as the caller promised; memory keeps its contents as the CPU sees them.
        unsafe {
            core::arch::asm!("dcbf 0, {}", in(reg) line, options(nostack, preserves_flags))
        };
        #[cfg(not(target_arch = "powerpc"))]
        let _ = line;
    });
    sync();
}

/// Does what [`invalidate`] does, for the `bytes` bytes at `start`.
///
/// # Errors
/// [`PartialLine`] unless the range starts and ends at line boundaries; nothing was touched then.
///
/// # Safety
/// The range must be mapped, and nobody else may hold a reference into it: its contents may change to whatever memory holds.
#[inline]
pub unsafe fn invalidate_range(start: *mut u8, bytes: usize) -> Result<(), PartialLine> {
    PartialLine::check(start, bytes)?;
    // SAFETY: whole lines, and the caller's promise.
    unsafe { invalidate_lines(start, bytes) };
    Ok(())
}

/// Drops the lines of a range that was checked to be whole lines.
///
/// # Safety
/// As [`invalidate_range`], with whole lines.
#[inline]
unsafe fn invalidate_lines(start: *mut u8, bytes: usize) {
    for_each_line(start, bytes, |line| {
        #[cfg(target_os = "none")]
        // SAFETY: the line is mapped, whole and the caller's own.
        unsafe {
            core::arch::asm!("dcbi 0, {}", in(reg) line, options(nostack, preserves_flags))
        };
        #[cfg(not(target_os = "none"))]
        let _ = line;
    });
    sync();
}

/// Does what [`sync_instructions`] does, for the `bytes` bytes at `start`.
///
/// # Safety
/// The range must be mapped. Its contents do not matter, nor who borrows it.
pub unsafe fn sync_instructions_range(start: *const u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { clean_range(start, bytes) };
    for_each_line(start, bytes, |line| {
        #[cfg(target_arch = "powerpc")]
        // SAFETY: the line is mapped, as the caller promised; only the instruction cache changes.
        unsafe {
            core::arch::asm!("icbi 0, {}", in(reg) line, options(nostack, preserves_flags))
        };
        #[cfg(not(target_arch = "powerpc"))]
        let _ = line;
    });
    sync();
    crate::cpu::isync();
}

/// Calls `operation` with the address of every line that holds a byte of the range. An empty range has none. A range that would
/// wrap round the address space (no allocation does) ends at its end.
#[inline(always)]
fn for_each_line(start: *const u8, bytes: usize, mut operation: impl FnMut(usize)) {
    let Some(last) = bytes.checked_sub(1) else {
        return;
    };
    let first = start.expose_provenance() & !(LINE_BYTES - 1);
    let last = start.addr().saturating_add(last) & !(LINE_BYTES - 1);
    let mut line = first;
    loop {
        operation(line);
        if line == last {
            return;
        }
        line += LINE_BYTES;
    }
}

/// Cache maintenance as a value, so that code which shares memory with devices can be tested against a stand-in.
///
/// # Implementation safety
/// After `clean` or `flush` a device must see what the CPU wrote; after `invalidate` or `flush` the CPU must see what a device
/// wrote. No operation may change bytes outside the range as the CPU sees them.
///
/// # Safety
/// See above: memory that was handed to a device is read back as initialised, trusting these operations.
pub unsafe trait CacheControl {
    /// Writes modified lines back.
    ///
    /// # Safety
    /// The range must be mapped.
    unsafe fn clean(&self, start: *const u8, bytes: usize);

    /// Writes modified lines back and drops them.
    ///
    /// # Safety
    /// The range must be mapped.
    unsafe fn flush(&self, start: *const u8, bytes: usize);

    /// Drops lines.
    ///
    /// # Errors
    /// [`PartialLine`] unless the range starts and ends at line boundaries; nothing was touched then.
    ///
    /// # Safety
    /// The range must be mapped, and nobody else may hold a reference into it.
    unsafe fn invalidate(&self, start: *mut u8, bytes: usize) -> Result<(), PartialLine>;
}

/// The caches of the CPU that the program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broadway;

// SAFETY: the functions of this module do what the trait asks for.
unsafe impl CacheControl for Broadway {
    #[inline]
    unsafe fn clean(&self, start: *const u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { clean_range(start, bytes) }
    }

    #[inline]
    unsafe fn flush(&self, start: *const u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { flush_range(start, bytes) }
    }

    #[inline]
    unsafe fn invalidate(&self, start: *mut u8, bytes: usize) -> Result<(), PartialLine> {
        // SAFETY: the caller's promise.
        unsafe { invalidate_range(start, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn lines(start: usize, bytes: usize) -> Vec<usize> {
        let mut seen = Vec::new();
        for_each_line(core::ptr::without_provenance(start), bytes, |line| {
            seen.push(line)
        });
        seen
    }

    #[test]
    fn every_line_that_holds_a_byte_is_visited_once_at_every_alignment() {
        for offset in 0..LINE_BYTES {
            for bytes in 0..=3 * LINE_BYTES {
                let expected: Vec<usize> = (0..8)
                    .map(|n| 0x1000 + n * LINE_BYTES)
                    .filter(|line| {
                        *line < 0x1000 + offset + bytes
                            && line + LINE_BYTES > 0x1000 + offset
                            && bytes > 0
                    })
                    .collect();
                assert_eq!(
                    lines(0x1000 + offset, bytes),
                    expected,
                    "{bytes} bytes at offset {offset}"
                );
            }
        }
    }

    #[test]
    fn a_range_at_the_very_end_of_the_address_space_terminates() {
        assert_eq!(lines(usize::MAX - 31, 32), [usize::MAX - 31]);
        assert_eq!(
            lines(usize::MAX - 40, usize::MAX),
            [usize::MAX - 63, usize::MAX - 31]
        );
    }

    #[test]
    fn partial_lines_are_refused_and_named() {
        let mut memory = [Line([7; 32]); 3];
        let bytes = Line::as_bytes_mut(&mut memory);
        let address = bytes.as_ptr().addr();
        for (start, end) in [(0, 31), (0, 33), (1, 32), (1, 33), (31, 95), (16, 48)] {
            let error = Line::from_bytes_mut(&mut bytes[start..end]).unwrap_err();
            assert_eq!(
                error,
                PartialLine {
                    address: address + start,
                    bytes: end - start
                }
            );
            let range = &mut bytes[start..end];
            // SAFETY: exclusively borrowed.
            let refused = unsafe { invalidate_range(range.as_mut_ptr(), range.len()) };
            assert_eq!(refused, Err(error));
        }
        assert_eq!(Line::from_bytes_mut(&mut bytes[32..96]).unwrap().len(), 2);
        assert_eq!(Line::from_bytes_mut(&mut bytes[32..32]).unwrap().len(), 0);
    }

    #[test]
    fn zero_clears_its_lines_and_no_other() {
        let mut memory = [Line([0xAA; 32]); 4];
        zero(&mut memory[1..3]);
        assert_eq!(
            memory,
            [Line([0xAA; 32]), Line::ZERO, Line::ZERO, Line([0xAA; 32])]
        );
    }

    #[test]
    fn on_a_coherent_host_no_operation_changes_a_byte() {
        let mut memory = [Line([0x5A; 32]); 4];
        clean(&Line::as_bytes(&memory)[3..100]);
        flush(&Line::as_bytes(&memory)[3..100]);
        sync_instructions(&Line::as_bytes(&memory)[3..100]);
        invalidate(&mut memory);
        assert_eq!(memory, [Line([0x5A; 32]); 4]);
    }
}
