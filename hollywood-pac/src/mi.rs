//! MI: the memory interface of the GameCube: protection of MEM1 against the CPU, and counters.
//!
//! | | |
//! |---|---|
//! | base | `0x0C00_4000` (WiiBrew, "Memory Interface"; YAGCD 5.5); PI interrupt 7 |
//! | access | **16 bits** |
//! | certainty | protection certain (two sources); the counters are names |
//! | Dolphin | stored, without effect |

use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadOnly, ReadWrite, WriteOneToClear};

/// One protected range of pages of 1 KiB.
#[repr(C)]
pub struct Region {
    /// First page.
    pub first: Guarded<u16>,
    /// Last page.
    pub last: Guarded<u16>,
}

offsets!(Region: 0x04 { first: 0x00, last: 0x02 });

bits! {
    /// Access to the four regions: 0 denied, 1 read, 2 write, 3 both.
    pub struct Protection(u16);
    /// Region 0.
    pub u8, region0, set_region0: 1, 0;
    /// Region 1.
    pub u8, region1, set_region1: 3, 2;
    /// Region 2.
    pub u8, region2, set_region2: 5, 4;
    /// Region 3.
    pub u8, region3, set_region3: 7, 6;
}

bits! {
    /// Interrupts: a denied access to a region.
    pub struct Interrupts(u16);
    /// Region 0.
    pub region0, set_region0: 0;
    /// Region 1.
    pub region1, set_region1: 1;
    /// Region 2.
    pub region2, set_region2: 2;
    /// Region 3.
    pub region3, set_region3: 3;
    /// All of them in the mask; any of them in the flags.
    pub all, set_all: 4;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// Region 0, first page. Protection is unsafe to write: it takes memory away from the program.
    pub region0: Region,
    /// Region 1.
    pub region1: Region,
    /// Region 2.
    pub region2: Region,
    /// Region 3.
    pub region3: Region,
    /// Protection of the regions. Unsafe to write: it takes memory away from the program.
    pub protection: Guarded<Protection>,
    _reserved0: [u16; 5],
    /// Interrupt mask.
    pub intmask: ReadWrite<Interrupts>,
    /// Interrupt flags.
    pub intflag: WriteOneToClear<Interrupts>,
    /// Protection status; name only.
    pub status: ReadOnly<u16>,
    /// Address of the denied access, lower half.
    pub fail_address_low: ReadOnly<u16>,
    /// Address of the denied access, upper half.
    pub fail_address_high: ReadOnly<u16>,
    _reserved1: [u16; 6],
    /// Counters of ten masters, names only: the upper half of counter n is at 2n, the lower at 2n + 1.
    pub timer: [ReadWrite<u16>; 20],
    /// Unknown.
    pub unknown_5a: ReadWrite<u16>,
}

offsets!(Registers: 0x5C {
    protection: 0x10, intmask: 0x1C, intflag: 0x1E, status: 0x20,
    fail_address_low: 0x22, fail_address_high: 0x24, timer: 0x32, unknown_5a: 0x5A,
} nested { region0: 0x00, region1: 0x04, region2: 0x08, region3: 0x0C });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.5.
    masks! {
        Protection { region0: 0x0003, region1: 0x000C, region2: 0x0030, region3: 0x00C0 }
        Interrupts { region0: 0x0001, region1: 0x0002, region2: 0x0004, region3: 0x0008, all: 0x0010 }
    }
}
