//! Embedded logic analyser and memory test.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0090` (hardware notes, section 4) |
//! | access | 32 bits, privileged |
//! | certainty | names only, from two lists |
//! | Dolphin | missing |

use crate::macros::offsets;
use crate::reg::Guarded;

/// Registers of the block. All are unsafe to write: what a memory test does to memory is unknown.
#[repr(C)]
pub struct Registers {
    /// ELA_REG_ADDR: address of a register of the analyser.
    pub ela_reg_addr: Guarded<u32>,
    /// ELA_REG_DATA: data of that register.
    pub ela_reg_data: Guarded<u32>,
    /// MEMTSTN; name only.
    pub memtstn: Guarded<u32>,
    /// MEMTSTP; name only.
    pub memtstp: Guarded<u32>,
}

offsets!(Registers: 0x10 { ela_reg_addr: 0x00, ela_reg_data: 0x04, memtstn: 0x08, memtstp: 0x0C });
