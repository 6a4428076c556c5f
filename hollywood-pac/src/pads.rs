//! Power and drive strength of the chip's pads.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_01DC` (hardware notes, section 4) |
//! | access | 32 bits, privileged |
//! | certainty | names only |
//! | Dolphin | missing |

use crate::macros::offsets;
use crate::reg::Guarded;

/// Registers of the block. All are unsafe to write: memory and flash hang on these pads.
#[repr(C)]
pub struct Registers {
    /// IOPWRCTRL: power.
    pub iopwrctrl: Guarded<u32>,
    /// IOSTRCTRL0: strength.
    pub iostrctrl0: Guarded<u32>,
    /// IOSTRCTRL1: strength.
    pub iostrctrl1: Guarded<u32>,
    /// CLKSTRCTRL: strength of clocks.
    pub clkstrctrl: Guarded<u32>,
}

offsets!(Registers: 0x10 { iopwrctrl: 0x00, iostrctrl0: 0x04, iostrctrl1: 0x08, clkstrctrl: 0x0C });
