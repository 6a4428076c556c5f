//! The 64-bit time base, read in two halves.

/// Returns the time base: a counter of bus clocks divided by 4, 60.75 MHz on a Wii (hardware notes, section 7.1).
///
/// Off PowerPC it is a stand-in that advances by one with every read, so that a bounded wait ends.
#[inline]
pub fn time_base() -> u64 {
    #[cfg(target_arch = "powerpc")]
    {
        whole(upper, lower)
    }
    #[cfg(not(target_arch = "powerpc"))]
    {
        use core::sync::atomic::{AtomicU32, Ordering};
        static READS: AtomicU32 = AtomicU32::new(0);
        u64::from(READS.fetch_add(1, Ordering::Relaxed))
    }
}

/// Puts the two halves together; reads again whenever the lower half ran over between the two reads of the upper.
#[inline(always)]
#[cfg_attr(not(target_arch = "powerpc"), cfg_attr(not(test), expect(dead_code)))]
fn whole(mut upper: impl FnMut() -> u32, mut lower: impl FnMut() -> u32) -> u64 {
    loop {
        let before = upper();
        let low = lower();
        if upper() == before {
            return u64::from(before) << 32 | u64::from(low);
        }
    }
}

#[cfg(target_arch = "powerpc")]
#[inline(always)]
fn upper() -> u32 {
    let value: u32;
    // SAFETY: reads a counter; user-mode, no memory.
    unsafe {
        core::arch::asm!("mftbu {}", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

#[cfg(target_arch = "powerpc")]
#[inline(always)]
fn lower() -> u32 {
    let value: u32;
    // SAFETY: reads a counter; user-mode, no memory.
    unsafe {
        core::arch::asm!("mftb {}", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carry_between_the_halves_is_never_torn() {
        // The counter goes 0x4_FFFF_FFFF -> 0x5_0000_0000 between the first two reads.
        let mut uppers = [4, 5, 5, 5].into_iter();
        let mut lowers = [0, 1].into_iter();
        assert_eq!(
            whole(|| uppers.next().unwrap(), || lowers.next().unwrap()),
            0x5_0000_0001
        );
        assert_eq!(uppers.next(), None);

        // The carry comes after the lower half was read: the first pair is discarded.
        let mut uppers = [4, 5, 5, 5].into_iter();
        let mut lowers = [0xFFFF_FFFF, 0].into_iter();
        assert_eq!(
            whole(|| uppers.next().unwrap(), || lowers.next().unwrap()),
            0x5_0000_0000
        );
    }

    #[test]
    fn without_a_carry_two_reads_of_the_upper_half_are_enough() {
        let mut reads = 0;
        assert_eq!(
            whole(
                || {
                    reads += 1;
                    7
                },
                || 0x89AB_CDEF
            ),
            0x7_89AB_CDEF
        );
        assert_eq!(reads, 2);
    }

    #[test]
    fn the_time_base_advances() {
        let start = time_base();
        while time_base() == start {}
        assert!(time_base() > start);
    }
}
