//! Timer and alarm of Hollywood.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0010` (hardware notes, section 4); Hollywood interrupt 0 |
//! | access | 32 bits, privileged |
//! | certainty | certain (three sources); the rate is about 1.8986 MHz |
//! | Dolphin | missing: reads as -1 or 0. Take the CPU's time base instead ([`crate::delay`]) |

use crate::macros::offsets;
use crate::reg::ReadWrite;

/// Registers of the timer.
#[repr(C)]
pub struct Registers {
    /// TIMER: counts up freely, one step in about 526.7 ns.
    pub timer: ReadWrite<u32>,
    /// ALARM: the interrupt comes when the timer has this value. IOS uses it too.
    pub alarm: ReadWrite<u32>,
}

offsets!(Registers: 0x08 { timer: 0x00, alarm: 0x04 });
