//! Copies between memories in as few instructions and bus cycles as the processor allows.
//!
//! | on PowerPC | for a line of 32 bytes | where |
//! |---|---|---|
//! | `by_lines`, both places at the same distance from a word | 10 instructions: 4 loads, 4 stores, `dcbz`, the loop's end | cached destinations |
//! | `by_lines`, others | 18: 8 loads, 8 stores, `dcbz`, the loop's end | cached destinations |
//! | `by_words` | 24: load, store and loop's end for each word | everywhere, in exception handlers too |
//!
//! A line that is about to be overwritten as a whole is made with `dcbz`, not fetched: a third of the bus traffic of a copy from memory to memory. The
//! processor loads and stores words at any address, at the price of a second access to the cache where one crosses a double
//! word; floating-point registers carry double words at any multiple of 4 (IBM, 750GX user's manual, 4.5.6 and 6.4.6; the 750CL is of this
//! family). Their loads and stores of doubles change no bit, whatever the value.
//!
//! Rejected: `lmw` and `stmw`, fewer instructions but no fewer cycles; touching the source's lines ahead with `dcbt`, which
//! would load lines beyond the end that belong to others, devices among them.

#[cfg(target_arch = "powerpc")]
use crate::cache::LINE_BYTES;

/// Copies `bytes` bytes from `src` to `dst`: in lines on the bare CPU if `dst` is cached, as the compiler does it elsewhere.
///
/// Past the caches this is no way to copy, but for whole words: rule 2 of the machine.
///
/// # Safety
/// As of [`core::ptr::copy_nonoverlapping`]: `src` is valid for reads and `dst` for writes of `bytes` bytes, and the two do not overlap.
#[inline]
pub unsafe fn copy(src: *const u8, dst: *mut u8, bytes: usize) {
    #[cfg(target_os = "none")]
    if u32::try_from(dst.addr())
        .is_ok_and(|address| crate::addr::UncachedAddr::new(address).is_none())
    {
        // SAFETY: the caller's promise. Outside the uncached view memory is cacheable under the standard address map, and
        // lines have 32 bytes.
        unsafe { by_lines(src, dst, bytes) };
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { src.copy_to_nonoverlapping(dst, bytes) }
}

/// Copies `bytes` bytes from `src` to `dst`, whole lines of `dst` without fetching them first.
///
/// Where the floating-point unit is off, as in exception handlers, it is not used.
///
/// # Safety
/// As of [`copy`]. Cache lines have 32 bytes, and `dst` is cacheable memory, or `dcbz` is an alignment exception.
#[cfg(target_arch = "powerpc")]
#[inline(never)]
pub unsafe fn by_lines(src: *const u8, dst: *mut u8, bytes: usize) {
    let lead = dst.addr().wrapping_neg() % LINE_BYTES;
    let lines = bytes.saturating_sub(lead) / LINE_BYTES;
    if lines == 0 {
        // SAFETY: the caller's promise.
        return unsafe { by_words(src, dst, bytes) };
    }
    let tail = lead + lines * LINE_BYTES;
    // SAFETY: three parts, one behind the other, of what the caller promised. The second begins at a line of the destination.
    unsafe {
        by_words(src, dst, lead);
        let (src_line, dst_line) = (src.add(lead), dst.add(lead));
        if src_line.addr().is_multiple_of(4) && floating_point_is_on() {
            lines_of_doubles(src_line, dst_line, lines);
        } else {
            lines_of_words(src_line, dst_line, lines);
        }
        by_words(src.add(tail), dst.add(tail), bytes - tail);
    }
}

/// Copies `bytes` bytes from `src` to `dst` as words and up to three single bytes, wherever both lie.
///
/// # Safety
/// As of [`copy`].
#[cfg(target_arch = "powerpc")]
#[inline(always)]
pub unsafe fn by_words(src: *const u8, dst: *mut u8, bytes: usize) {
    // SAFETY: as many words and bytes are loaded and stored as the caller promised. The pointers run one access behind.
    unsafe {
        core::arch::asm!(
            "srwi. {data}, {bytes}, 2",
            "beq 3f",
            "mtctr {data}",
            "2: lwzu {data}, 4({src})",
            "stwu {data}, 4({dst})",
            "bdnz 2b",
            "3: andi. {bytes}, {bytes}, 3",
            "beq 5f",
            "mtctr {bytes}",
            "addi {src}, {src}, 3",
            "addi {dst}, {dst}, 3",
            "4: lbzu {data}, 1({src})",
            "stbu {data}, 1({dst})",
            "bdnz 4b",
            "5:",
            src = inout(reg_nonzero) src.wrapping_sub(4) => _,
            dst = inout(reg_nonzero) dst.wrapping_sub(4) => _,
            bytes = inout(reg) bytes => _,
            data = out(reg) _,
            out("ctr") _, out("cr0") _,
            options(nostack),
        )
    }
}

/// Returns whether floating-point registers may be touched. Outside of the bare CPU an operating system turns the unit on.
#[cfg(target_arch = "powerpc")]
#[inline(always)]
fn floating_point_is_on() -> bool {
    #[cfg(target_os = "none")]
    return crate::cpu::msr().fp();
    #[cfg(not(target_os = "none"))]
    true
}

/// # Safety
/// `src` is at a multiple of 4 and valid for reads, `dst` at a line of cacheable memory and valid for writes of `lines` lines, at least
/// one; the two do not overlap; the floating-point unit is on.
#[cfg(target_arch = "powerpc")]
#[inline(always)]
unsafe fn lines_of_doubles(src: *const u8, dst: *mut u8, lines: usize) {
    // SAFETY: the caller's promise: each line is written as a whole, none beside. The pointers run one access behind.
    unsafe {
        core::arch::asm!(
            "mtctr {lines}",
            "2: dcbz {ahead}, {dst}",
            "lfd 0, 8({src})",
            "lfd 1, 16({src})",
            "lfd 2, 24({src})",
            "lfdu 3, 32({src})",
            "stfd 0, 8({dst})",
            "stfd 1, 16({dst})",
            "stfd 2, 24({dst})",
            "stfdu 3, 32({dst})",
            "bdnz 2b",
            src = inout(reg_nonzero) src.wrapping_sub(8) => _,
            dst = inout(reg_nonzero) dst.wrapping_sub(8) => _,
            ahead = in(reg_nonzero) 8,
            lines = in(reg) lines,
            out("f0") _, out("f1") _, out("f2") _, out("f3") _,
            out("ctr") _,
            options(nostack, preserves_flags),
        )
    }
}

/// # Safety
/// As of [`lines_of_doubles`], but that `src` may be anywhere, and the floating-point unit off.
#[cfg(target_arch = "powerpc")]
#[inline(always)]
unsafe fn lines_of_words(src: *const u8, dst: *mut u8, lines: usize) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mtctr {lines}",
            "2: dcbz {ahead}, {dst}",
            "lwz {a}, 4({src})",
            "lwz {b}, 8({src})",
            "lwz {c}, 12({src})",
            "lwz {d}, 16({src})",
            "lwz {e}, 20({src})",
            "lwz {f}, 24({src})",
            "lwz {g}, 28({src})",
            "lwzu {h}, 32({src})",
            "stw {a}, 4({dst})",
            "stw {b}, 8({dst})",
            "stw {c}, 12({dst})",
            "stw {d}, 16({dst})",
            "stw {e}, 20({dst})",
            "stw {f}, 24({dst})",
            "stw {g}, 28({dst})",
            "stwu {h}, 32({dst})",
            "bdnz 2b",
            src = inout(reg_nonzero) src.wrapping_sub(4) => _,
            dst = inout(reg_nonzero) dst.wrapping_sub(4) => _,
            ahead = in(reg_nonzero) 4,
            lines = in(reg) lines,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            out("ctr") _,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::copy;
    use crate::cache::Line;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    /// Every routine there is on this machine. The compiler's own is what [`copy`] comes down to under an operating system.
    const ROUTINES: &[(&str, Copy)] = &[
        ("copy", copy),
        #[cfg(target_arch = "powerpc")]
        ("by_lines", super::by_lines),
        #[cfg(target_arch = "powerpc")]
        ("by_words", by_words),
    ];

    #[cfg(target_arch = "powerpc")]
    unsafe fn by_words(src: *const u8, dst: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { super::by_words(src, dst, bytes) }
    }

    const LONGEST: usize = 1100;
    /// More than any loop could overshoot by in one turn, on both sides.
    const GUARD: usize = 64;
    const ROOM: usize = GUARD + 32 + LONGEST + GUARD;
    const UNTOUCHED: u8 = 0xA5;

    /// Bytes of which no two runs are alike, signalling and denormal doubles among them.
    fn pattern() -> [Line; ROOM.div_ceil(32)] {
        let (mut state, mut memory) = (1_u32, [Line::ZERO; ROOM.div_ceil(32)]);
        for byte in Line::as_bytes_mut(&mut memory) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let doubles = [0x7FF0_0000_0000_0001_u64, 1, 1 << 63, 0xFFF4 << 48];
        for (index, double) in doubles.into_iter().enumerate() {
            memory[2 + index].0[..8].copy_from_slice(&double.to_be_bytes());
        }
        memory
    }

    #[test]
    fn every_alignment_and_length_is_copied_exactly_and_nothing_beside() {
        let lengths = || {
            let long = [255, 256, 257, 511, 512, 513, 1023, 1024, 1025, LONGEST];
            (0..=200).chain(long)
        };
        let original = pattern();
        let source = Line::as_bytes(&original);
        let mut memory = [Line([UNTOUCHED; 32]); ROOM.div_ceil(32)];
        let target = Line::as_bytes_mut(&mut memory);
        for &(name, routine) in ROUTINES {
            for (from, to) in (0..32).flat_map(|from| (0..32).map(move |to| (from, to))) {
                for bytes in lengths() {
                    let (start, end) = (GUARD + to, GUARD + to + bytes);
                    // SAFETY: both lie within their arrays, which are two.
                    unsafe {
                        routine(
                            source.as_ptr().add(from),
                            target.as_mut_ptr().add(start),
                            bytes,
                        )
                    };
                    let case = || std::format!("{name}: {bytes} bytes from {from} to {to}");
                    let copied = &target[start..end];
                    assert!(copied == &source[from..from + bytes], "{}", case());
                    let (before, after) = (&target[..start], &target[end..end + GUARD]);
                    let untouched = |bytes: &[u8]| bytes.iter().all(|&byte| byte == UNTOUCHED);
                    assert!(untouched(before) && untouched(after), "{}", case());
                    target[start..end].fill(UNTOUCHED);
                }
            }
            assert_eq!(original, pattern(), "{name} wrote to the source");
        }
    }

    extern crate std;

    #[test]
    fn source_and_destination_may_share_a_line_at_either_end() {
        let original = pattern();
        for &(name, routine) in ROUTINES {
            for (from, bytes) in (0..32).flat_map(|from| (1..100).map(move |len| (from, len))) {
                for (src, dst) in [(from, from + bytes), (from + bytes, from)] {
                    let mut memory = original;
                    let mut expected = original;
                    Line::as_bytes_mut(&mut expected).copy_within(src..src + bytes, dst);
                    let start = Line::as_bytes_mut(&mut memory).as_mut_ptr();
                    // SAFETY: two neighbours within the array.
                    unsafe { routine(start.add(src), start.add(dst), bytes) };
                    assert!(
                        memory == expected,
                        "{name}: {bytes} bytes from {src} to {dst}"
                    );
                }
            }
        }
    }
}
