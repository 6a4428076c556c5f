//! Broadway, the CPU: barriers, machine state, special-purpose registers, time base, critical sections.
//!
//! Barriers and the time base are there for every program. Supervisor registers exist only on a Wii (`target_os = "none"`):
//! code that wants to run on a host keeps clear of them, or goes through [`crate::delay::TimeBase`] and
//! [`crate::cache::CacheControl`]. Off PowerPC the barriers are compiler fences.
//!
//! Numbers and bits: hardware notes, sections 7.1 and 7.3, after the PowerPC 750CL manual; bits are numbered from the least
//! significant, not as in IBM's manuals.

mod barrier;
mod spr;
mod time;

#[cfg(target_os = "none")]
mod supervisor;

pub use barrier::{eieio, isync, sync};
pub use spr::{Bat, BatSize, Hid0, Hid2, Hid4, L2cr, Memory, Msr};
#[cfg(target_os = "none")]
pub use supervisor::*;
pub use time::time_base;

/// Disables external interrupts and the decrementer for as long as `critical_section` wants, and restores what was.
#[cfg(all(target_os = "none", feature = "critical-section-single-core"))]
mod critical {
    use super::{Msr, msr, set_msr};

    struct SingleCore;
    critical_section::set_impl!(SingleCore);

    // SAFETY: Broadway is one core, and with MSR[EE] clear nothing but an exception that the section itself causes can run
    // between acquire and release. Nested sections find EE clear and leave it so. Both accesses to the MSR are compiler
    // barriers, since their assembly may touch memory.
    unsafe impl critical_section::Impl for SingleCore {
        unsafe fn acquire() -> bool {
            let before = msr();
            let mut inside = before;
            inside.set_ee(false);
            // SAFETY: only EE changes, to "off", which breaks nothing.
            unsafe { set_msr(inside) };
            before.ee()
        }

        unsafe fn release(enabled: bool) {
            if enabled {
                let mut after: Msr = msr();
                after.set_ee(true);
                // SAFETY: EE was set when the matching section began.
                unsafe { set_msr(after) };
            }
        }
    }
}
