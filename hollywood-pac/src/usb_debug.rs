//! Debug ports and forced reset of the USB blocks.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0080` (hardware notes, sections 3.5 and 4) |
//! | access | 32 bits, privileged |
//! | certainty | names from two sources; USBFRCRST's sequence is known from IOS, its bits are not |
//! | Dolphin | missing |
//!
//! A driver has no business here: IOS has set the PHYs up, and resetting a controller through its own registers is enough.

use crate::macros::offsets;
use crate::reg::Guarded;

/// Registers of the block. All are unsafe to write: they take the clocks or the reset of running controllers away.
#[repr(C)]
pub struct Registers {
    /// USBDBG0; name only.
    pub usbdbg0: Guarded<u32>,
    /// USBDBG1; name only.
    pub usbdbg1: Guarded<u32>,
    /// USBFRCRST: forces parts of the USB blocks into reset, 0 when all run.
    pub usbfrcrst: Guarded<u32>,
    /// USBIOTEST; name only.
    pub usbiotest: Guarded<u32>,
}

offsets!(Registers: 0x10 { usbdbg0: 0x00, usbdbg1: 0x04, usbfrcrst: 0x08, usbiotest: 0x0C });
