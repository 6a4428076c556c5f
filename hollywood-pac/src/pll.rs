//! Phase-locked loops.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_019C` (hardware notes, sections 3.5 and 4; offsets 0x19C to 0x1A4 and 0x1AC from public register lists) |
//! | access | 32 bits, privileged |
//! | certainty | names; of PLLUSBEXT the order in which IOS sets bits 31 and 30 is known |
//! | Dolphin | PLLAI and PLLAIEXT are 0, the others are missing |

use crate::macros::offsets;
use crate::reg::Guarded;

/// Registers of the block. All are unsafe to write: they are the clocks of everything.
#[repr(C)]
pub struct Registers {
    /// PLLDR.
    pub plldr: Guarded<u32>,
    /// PLLSYSEXT1.
    pub pllsysext1: Guarded<u32>,
    /// PLLSYSEXT2.
    pub pllsysext2: Guarded<u32>,
    /// PLLAIEXT1.
    pub pllaiext1: Guarded<u32>,
    /// PLLAIEXT2.
    pub pllaiext2: Guarded<u32>,
    /// PLLSYS: system.
    pub pllsys: Guarded<u32>,
    /// PLLSYSEXT.
    pub pllsysext: Guarded<u32>,
    /// PLLDSK: disc drive.
    pub plldsk: Guarded<u32>,
    /// PLLDDR: MEM2.
    pub pllddr: Guarded<u32>,
    /// PLLDDREXT.
    pub pllddrext: Guarded<u32>,
    /// PLLVI: video.
    pub pllvi: Guarded<u32>,
    /// PLLVIEXT.
    pub pllviext: Guarded<u32>,
    /// PLLAI: audio.
    pub pllai: Guarded<u32>,
    /// PLLAIEXT.
    pub pllaiext: Guarded<u32>,
    /// PLLUSB: USB; 0x0090_07C0 on a running console.
    pub pllusb: Guarded<u32>,
    /// PLLUSBEXT; 0xD800_0090 on a running console.
    pub pllusbext: Guarded<u32>,
}

offsets!(Registers: 0x40 {
    plldr: 0x00, pllsysext1: 0x04, pllsysext2: 0x08, pllaiext1: 0x0C, pllaiext2: 0x10, pllsys: 0x14, pllsysext: 0x18,
    plldsk: 0x1C, pllddr: 0x20, pllddrext: 0x24, pllvi: 0x28, pllviext: 0x2C, pllai: 0x30, pllaiext: 0x34, pllusb: 0x38,
    pllusbext: 0x3C,
});
