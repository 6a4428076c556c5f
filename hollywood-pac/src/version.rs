//! Version of the chip, and the debug clocks and buses around it.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_01F4`; `0x0D80_05A0` for the Wii U's identification (hardware notes, section 4; 0x1F4 to 0x210 and 0x218 from public register lists) |
//! | access | 32 bits, privileged |
//! | certainty | VERSION and LT_CHIPREVID certain (three sources); the others are names |
//! | Dolphin | missing |

use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadOnly};

bits! {
    /// VERSION of Hollywood: 0x11 on late consoles and on a Wii U.
    pub struct Version(u32);
    /// Version.
    pub u8, version, _: 7, 4;
    /// Revision.
    pub u8, revision, _: 3, 0;
}

/// Registers of the block. The debug registers are unsafe to write: nothing is known about what they do.
#[repr(C)]
pub struct Registers {
    /// DBGCLK; name only.
    pub dbgclk: Guarded<u32>,
    /// OBSCLKOCTRL: clock observation, output; name only.
    pub obsclkoctrl: Guarded<u32>,
    /// OBSCLKICTRL: clock observation, input; name only.
    pub obsclkictrl: Guarded<u32>,
    /// DBGPORT; name only.
    pub dbgport: Guarded<u32>,
    /// SICLKDIV: a serial interface of its own; name only.
    pub siclkdiv: Guarded<u32>,
    /// SICTRL; name only.
    pub sictrl: Guarded<u32>,
    /// SIDATA; name only.
    pub sidata: Guarded<u32>,
    /// SIINT; name only.
    pub siint: Guarded<u32>,
    /// VERSION of the chip.
    pub version: ReadOnly<Version>,
    /// DBGBUSRD: debug bus; name only.
    pub dbgbusrd: ReadOnly<u32>,
}

offsets!(Registers: 0x28 {
    dbgclk: 0x00, obsclkoctrl: 0x04, obsclkictrl: 0x08, dbgport: 0x0C, siclkdiv: 0x10, sictrl: 0x14, sidata: 0x18, siint: 0x1C,
    version: 0x20, dbgbusrd: 0x24,
});

/// The Wii U's identification, beyond what a Wii has.
#[repr(C)]
pub struct Latte {
    /// LT_CHIPREVID: 0xCAFE in the upper half on a Wii U in Wii mode, 0 on a Wii.
    pub chiprevid: ReadOnly<u32>,
}

offsets!(Latte: 0x04 { chiprevid: 0x00 });

impl Latte {
    /// Says whether the console is a Wii U in Wii mode.
    pub fn is_wii_u(&self) -> bool {
        self.chiprevid.read() >> 16 == 0xCAFE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.
    masks! {
        Version { version: 0x0000_00F0, revision: 0x0000_000F }
    }
}
